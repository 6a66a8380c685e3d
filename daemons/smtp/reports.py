"""Reports of delivery to senders that asked for them, RFC 3461 §5.2.3: stored with the delivery itself, in one transaction.

A report has the null reverse path, so nothing ever reports on a report; and none is made for a message whose reverse path is
null. A sender of ours gets it into its mailbox, a remote one by the queue.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from daemons.context import Context
from daemons.outgoing import compose, new_transaction_id
from daemons.smtp.transaction import Addressee, Forwarded, Transaction
from protocol.address import AddrSpec
from protocol.message.dsn import RETURNED_HEADER_LIMIT, Action, Language, Outcome, Report, language_of, render
from protocol.smtp.command import Rcpt
from protocol.status import enhanced
from storage.rows import NewMessage

_DELIVERED = enhanced("2.0.0")


class Reports:
    """Makes the reports of a process."""

    def __init__(self, context: Context, postmaster: AddrSpec, language: Language) -> None:
        self._context = context
        self._hostname = context.settings.hostname
        self._author = postmaster if postmaster.is_ascii else AddrSpec("postmaster", self._hostname)
        self._language: Language = language

    async def of_delivery(
        self,
        transaction: Transaction,
        addressees: Sequence[Addressee],
        transaction_id: str,
        received_at: datetime,
        expanded: Sequence[Forwarded] = (),
    ) -> list[NewMessage]:
        """The one report that is due once the message is stored for these addressees, or none.

        It tells of addresses that stand for several, too: what comes of each of those it does not know (RFC 3461 §5.2.7.3).

        Raises UnavailableError when the directory cannot be asked.
        """
        reverse_path = transaction.mail.reverse_path
        told = [addressee for addressee in addressees if "SUCCESS" in (addressee.rcpt.parameters.notify or ())]
        several = [each for each in expanded if "SUCCESS" in (each.rcpt.parameters.notify or ())]
        if reverse_path is None or not (told or several):
            return []
        parameters = transaction.mail.parameters
        directory = self._context.directory
        sender = await directory.resolve(reverse_path.local_part, reverse_path.domain)
        language = self._language if sender is None else language_of(await directory.language(sender.tenant_id))
        report = Report(
            hostname=self._hostname,
            author=self._author,
            reverse_path=reverse_path,
            outcomes=[self._outcome(each.rcpt, "delivered") for each in told]
            + [self._outcome(each.rcpt, "expanded") for each in several],
            arrived_at=received_at,
            envid=parameters.envid,
            ret=parameters.ret,
            is_smtputf8=parameters.is_smtputf8,
            language=language,
        )
        octets = render(
            report,
            _beginning(transaction.file.original),
            boundary=f"=_{transaction_id}",  # our id is random and was drawn after the last octet of the message
            message_id=f"<{transaction_id}.report@{self._hostname}>",
            date=received_at,
        )
        # The report belongs to the sender's tenant; for a remote sender, to that of the first who got the message.
        tenant_id = told[0].recipient.tenant_id if told else several[0].tenant_id
        if sender is not None:
            tenant_id = sender.tenant_id
        trace_id = new_transaction_id()
        return await compose(
            self._context, tenant_id, None, [reverse_path], octets, trace_id=trace_id, accepted_at=received_at
        )

    def _outcome(self, rcpt: Rcpt, action: Action) -> Outcome:
        path = rcpt.forward_path
        return Outcome(
            recipient=path if path.domain else AddrSpec(path.local_part, self._hostname),  # <Postmaster>
            action=action,
            status=_DELIVERED,
            orcpt=rcpt.parameters.orcpt,
        )


def _beginning(original: bytes | Path) -> bytes:
    """As much of the message as a report of success can return."""
    if isinstance(original, bytes):
        return original
    with original.open("rb") as file:
        return file.read(RETURNED_HEADER_LIMIT)

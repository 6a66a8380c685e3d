"""Reports to senders, stored with what they tell of, in one transaction: of delivery, if they asked for it (RFC 3461 §5.2.3), and
of a rejection by a recipient's rule.

A report has the null reverse path, so nothing ever reports on a report; and none is made for a message whose reverse path is
null. A sender of ours gets it into its mailbox, a remote one by the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from daemons.context import Context
from daemons.outgoing import compose, new_transaction_id
from daemons.smtp.transaction import Addressee, Transaction
from protocol.address import AddrSpec
from protocol.message.dsn import RETURNED_HEADER_LIMIT, Action, Language, Outcome, Report, language_of, render
from protocol.smtp.command import Mail, Rcpt
from protocol.status import Enhanced, enhanced
from storage.rows import NewMessage

_DELIVERED, _REJECTED = enhanced("2.0.0"), enhanced("5.7.1")


@dataclass(frozen=True, slots=True)
class Success:
    """What became of the message for one recipient."""

    rcpt: Rcpt
    action: Action  # "delivered", "expanded", "relayed"
    tenant_id: int  # whose recipient it is


class Reports:
    """Makes the reports of a process."""

    def __init__(self, context: Context, postmaster: AddrSpec, language: Language) -> None:
        self._context = context
        self._hostname = context.settings.hostname
        self.author = postmaster if postmaster.is_ascii else AddrSpec("postmaster", self._hostname)
        self._language: Language = language

    async def of_delivery(
        self, transaction: Transaction, successes: Sequence[Success], transaction_id: str, received_at: datetime
    ) -> list[NewMessage]:
        """The one report that is due once the message is stored, on those of the recipients of which success is to be reported.

        Raises UnavailableError when the directory cannot be asked.
        """
        told = [each for each in successes if "SUCCESS" in (each.rcpt.parameters.notify or ())]
        if transaction.mail.reverse_path is None or not told:
            return []
        outcomes = [self._outcome(each.rcpt, each.action, _DELIVERED) for each in told]
        # The report belongs to the sender's tenant; for a remote sender, to that of the first who got the message.
        return await self._made(
            told[0].tenant_id, transaction.mail, outcomes, transaction.file.original, transaction_id, received_at
        )

    async def of_rejection(
        self, mail: Mail, addressee: Addressee, reason: str, original: bytes | Path, received_at: datetime
    ) -> list[NewMessage]:
        """Word to the sender that a rule of a recipient rejects the message (RFC 5429 §2.1), unless NOTIFY says no.

        Whether the sender may be told at all is the caller's to know. Raises UnavailableError.
        """
        notify = addressee.rcpt.parameters.notify
        if mail.reverse_path is None or (notify is not None and "FAILURE" not in notify):
            return []
        outcome = replace(self._outcome(addressee.rcpt, "failed", _REJECTED), diagnostic=reason)
        return await self._made(
            addressee.recipient.tenant_id, mail, [outcome], original, new_transaction_id(), received_at
        )

    async def _made(
        self,
        tenant_id: int,
        mail: Mail,
        outcomes: Sequence[Outcome],
        original: bytes | Path,
        seed: str,
        received_at: datetime,
    ) -> list[NewMessage]:
        """The report, of a sender of ours for its own tenant. seed: drawn by us after the last octet of the message."""
        reverse_path, parameters = mail.reverse_path, mail.parameters
        assert reverse_path is not None
        directory = self._context.directory
        sender = await directory.resolve(reverse_path.local_part, reverse_path.domain)
        language = self._language if sender is None else language_of(await directory.language(sender.tenant_id))
        report = Report(
            hostname=self._hostname,
            author=self.author,
            reverse_path=reverse_path,
            outcomes=outcomes,
            arrived_at=received_at,
            envid=parameters.envid,
            ret="HDRS",  # RFC 3461 §6.2: success returns no message, and what a rule rejects is known to its sender
            is_smtputf8=parameters.is_smtputf8,
            language=language,
        )
        octets = render(
            report,
            _beginning(original),
            boundary=f"=_{seed}",
            message_id=f"<{seed}.report@{self._hostname}>",
            date=received_at,
        )
        return await compose(
            self._context,
            tenant_id if sender is None else sender.tenant_id,
            None,
            [reverse_path],
            octets,
            trace_id=new_transaction_id(),
            accepted_at=received_at,
        )

    def _outcome(self, rcpt: Rcpt, action: Action, status: Enhanced) -> Outcome:
        path = rcpt.forward_path
        return Outcome(
            recipient=path if path.domain else AddrSpec(path.local_part, self._hostname),  # <Postmaster>
            action=action,
            status=status,
            orcpt=rcpt.parameters.orcpt,
        )


def _beginning(original: bytes | Path) -> bytes:
    """As much of the message as a report of success can return."""
    if isinstance(original, bytes):
        return original
    with original.open("rb") as file:
        return file.read(RETURNED_HEADER_LIMIT)

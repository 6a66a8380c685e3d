"""Reports of delivery to senders that asked for them, RFC 3461 §5.2.3: for local senders, who get them with the delivery itself.

A report has the null reverse path, so nothing ever reports on a report; and none is made for a message whose reverse path is
null. A remote sender is told nothing until the relay exists, which has to carry the report to it.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from daemons.delivery import prepare
from daemons.smtp.journal import journal_envelope
from daemons.smtp.transaction import Addressee, Origin, Transaction
from protocol.address import AddrSpec
from protocol.message.dsn import RETURNED_HEADER_LIMIT, Language, Outcome, Report, render
from protocol.smtp.command import Mail, Rcpt
from protocol.smtp.parameters import NO_RCPT_PARAMETERS, MailParameters
from protocol.smtp.received import render_return_path
from protocol.status import enhanced
from storage.accounts import Directory
from storage.rows import JournalEntry, NewMessage, Placement, Recipient

_DELIVERED = enhanced("2.0.0")


class Reports:
    """Makes the reports of a process."""

    def __init__(self, hostname: str, postmaster: AddrSpec, directory: Directory, language: Language) -> None:
        self._hostname = hostname
        self._author = postmaster if postmaster.is_ascii else AddrSpec("postmaster", hostname)
        self._directory = directory
        self._language: Language = language

    async def of_delivery(
        self, transaction: Transaction, addressees: Sequence[Addressee], transaction_id: str, received_at: datetime
    ) -> list[NewMessage]:
        """The one report that is due once the message is stored for these addressees, or none.

        Raises UnavailableError when the directory cannot be asked.
        """
        reverse_path = transaction.mail.reverse_path
        told = [addressee for addressee in addressees if "SUCCESS" in (addressee.rcpt.parameters.notify or ())]
        if reverse_path is None or not told:
            return []
        sender = await self._directory.resolve(reverse_path.local_part, reverse_path.domain)
        if sender is None or sender.is_disabled or sender.is_over_quota:
            return []  # anybody can name a reverse path: that must not get past what RCPT would have answered
        parameters = transaction.mail.parameters
        report = Report(
            hostname=self._hostname,
            author=self._author,
            reverse_path=reverse_path,
            outcomes=[self._outcome(addressee) for addressee in told],
            arrived_at=received_at,
            envid=parameters.envid,
            ret=parameters.ret,
            is_smtputf8=parameters.is_smtputf8,
            language=self._language,
        )
        octets = render(
            report,
            _beginning(transaction.file.original),
            boundary=f"=_{transaction_id}",  # our id is random and was drawn after the last octet of the message
            message_id=f"<{transaction_id}.report@{self._hostname}>",
            date=received_at,
        )
        return [await self._message(octets, reverse_path, sender, transaction_id, received_at)]

    def _outcome(self, addressee: Addressee) -> Outcome:
        path = addressee.rcpt.forward_path
        return Outcome(
            recipient=path if path.domain else AddrSpec(path.local_part, self._hostname),  # <Postmaster>
            action="delivered",
            status=_DELIVERED,
            orcpt=addressee.rcpt.parameters.orcpt,
        )

    async def _message(
        self, octets: bytes, forward_path: AddrSpec, sender: Recipient, transaction_id: str, received_at: datetime
    ) -> NewMessage:
        is_ascii = octets.isascii()
        mail = Mail(None, MailParameters(body="7BIT" if is_ascii else "8BITMIME", is_smtputf8=not is_ascii))
        rcpt = Rcpt(forward_path, NO_RCPT_PARAMETERS)
        origin = Origin(peer="", helo=self._hostname, protocol="", tls=None)
        envelope = journal_envelope(mail, [rcpt], origin, transaction_id, received_at)
        return await prepare(
            sender.tenant_id,
            render_return_path(None),
            octets,
            [Placement(sender.inbox_id, internaldate=received_at)],
            JournalEntry("internal", envelope, received_at),
        )


def _beginning(original: bytes | Path) -> bytes:
    """As much of the message as a report of success can return."""
    if isinstance(original, bytes):
        return original
    with original.open("rb") as file:
        return file.read(RETURNED_HEADER_LIMIT)

"""One account's message, and what its rules are carried out with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from daemons.context import Context
from daemons.delivery import facts_of
from daemons.notifying import Notifications
from daemons.scripting.mailboxes import Mailboxes
from daemons.scripting.owners import AccountOwner
from daemons.scripting.running import Scripting
from daemons.smtp.delivering.answers import Answers
from daemons.smtp.delivering.incoming import Delivery, Form, Incoming
from daemons.smtp.delivering.redirects import Redirects
from daemons.smtp.reports import Reports
from daemons.smtp.transaction import Addressee
from filters.pipeline import Decision
from filters.sieve.message import View
from filters.sieve.ports import Surroundings
from protocol.smtp.received import render_return_path

# What becomes of the message for an account that it is sent on to, in that form if it is another one; None: it has it anyway.
Further = Callable[[Addressee, Form | None], Awaitable[Delivery | None]]


@dataclass(frozen=True, slots=True)
class Means:
    """One per process."""

    context: Context
    scripting: Scripting
    answers: Answers
    mailboxes: Mailboxes
    notifications: Notifications
    redirects: Redirects
    reports: Reports


@dataclass(frozen=True, slots=True)
class Case:
    """Of one account and one message."""

    incoming: Incoming
    own: Decision  # what the filters want for this account
    form: Form  # as the account gets it
    owner: AccountOwner
    can_refuse: bool  # by a reply; otherwise mail is sent
    further: Further
    forms: dict[int, Form] = field(default_factory=dict)  # of messages that the script has edited

    async def form_of(self, message: bytes | None) -> Form:
        """What an action is about; None: the message as the account gets it."""
        if message is None:
            return self.form
        form = self.forms.get(id(message))
        if form is None:
            return_path = render_return_path(self.incoming.mail.reverse_path)
            head, original = parted(message, self.form.head, return_path)
            form = self.forms[id(message)] = Form(head, original, await facts_of(original))
        return form


@dataclass(frozen=True, slots=True)
class Seen:
    """The message and what is around it, as the account's script saw them."""

    view: View
    surroundings: Surroundings


def parted(message: bytes, head: bytes, return_path: bytes) -> tuple[bytes, bytes]:
    """An edited message, in the trace head and what is below it: of the head Return-Path at least stays one, on top."""
    if message.startswith(head):
        return head, message[len(head) :]
    end = message.find(b"\r\n\r\n")
    at = message.find(return_path, 0, end + 2 if end >= 0 else len(message))
    if at < 0 or (at and message[at - 1] != 0x0A):
        return return_path, message
    return return_path, message[:at] + message[at + len(return_path) :]

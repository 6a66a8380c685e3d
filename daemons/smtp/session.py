"""What the commands of SMTP (RFC 5321) and LMTP (RFC 2033) do: the order of commands, recipients, and receiving a message.

What is different for users who submit mail is in daemons/smtp/submission.py.

command            needs                       leads to
EHLO HELO (LHLO)   -                           a greeted session without transaction
MAIL               greeting, no transaction    a transaction without recipients
RCPT               transaction, no BDAT yet    one recipient more
DATA               recipients, no BDAT yet     the message; then no transaction
BDAT               recipients                  a part of the message; with LAST as DATA
RSET               -                           no transaction
STARTTLS           no TLS yet                  a session not greeted
AUTH               submission; TLS, greeting,  an authenticated session
                   no login, no transaction
NOOP VRFY HELP QUIT may always come. Anything else is 503 5.5.1.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

from config.smtp import Smtp
from daemons import metrics
from daemons.authentication import Identity
from daemons.forwarding import Forwarding, Returned
from daemons.outgoing import new_transaction_id
from daemons.smtp import replies
from daemons.smtp.acceptance import Acceptance
from daemons.smtp.conversation import Conversation, HangUpError
from daemons.smtp.forwards import Forwards, refusal_of
from daemons.smtp.policing import Policing
from daemons.smtp.refusals import note_refusals
from daemons.smtp.transaction import Addressee, Forwarded, Origin, RefusedRecipient, Rerouted, Transaction
from daemons.traces import Recorder
from filters.verdict import Refuse
from protocol.address import AddrSpec
from protocol.smtp.command import (
    NEEDS_SMTPUTF8,
    Auth,
    Bdat,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    parse_command,
)
from protocol.smtp.data import ChunkReader, DataReader
from protocol.smtp.parameters import INTAKE_PARAMETERS, TLS_PARAMETERS, CommandError
from protocol.smtp.received import with_protocol
from protocol.smtp.reply import Reply, reply
from protocol.srs import is_rewritten
from storage.accounts import Directory
from storage.errors import StorageError, UnavailableError
from storage.rows import Recipient
from storage.spool import Spool

PIECE_OCTETS = 64 * 1024  # of a message, taken from the reader at a time

Verb = Callable[[Any, Any], Awaitable[None]]
Found: TypeAlias = Recipient | Forwarded | Returned | Reply | None  # what a recipient comes to; None: it is elsewhere


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a listener have in common."""

    hostname: str
    limits: Smtp
    postmaster: AddrSpec
    tls: ssl.SSLContext | None
    directory: Directory
    spool: Spool
    acceptance: Acceptance
    forwarding: Forwarding
    is_lmtp: bool
    admit: Callable[["Session"], Reply | None]  # called once per connection; a reply refuses it
    release: Callable[["Session"], None]  # called once, at the end of each admitted connection
    recorder: Recorder
    policing: Policing | None = None  # of mail from elsewhere


class Session(Conversation):
    """One SMTP or LMTP session."""

    verbs: ClassVar[Mapping[type, Verb]]  # below
    identity: Identity | None = None  # who has logged in

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared.limits, shared.hostname, shared.tls)
        self._shared = shared
        self._transaction: Transaction | None = None
        self._known_origin: tuple[bool, Origin] | None = None  # since the last greeting
        self._offered: AbstractSet[str] = INTAKE_PARAMETERS  # what MAIL may have, since the last greeting
        self._is_admitted = False
        self._policing: Policing | None = None  # what is asked about the client, if anything is
        self._command_count = 0
        self._junk_count = 0
        self._error_count = 0

    @property
    def is_idle(self) -> bool:
        """No transaction is open."""
        return self._transaction is None

    # -- the frame --------------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        assert self.session is not None
        assert self.transport is not None
        secured = self.transport.get_extra_info("ssl_object")
        if secured is not None:  # TLS from the first octet (RFC 8314 §3.3)
            self.session.ssl = {"ssl_object": secured}
        refusal = self._shared.admit(self)
        if refusal is not None:
            self._hang_up(refusal)
        self._is_admitted = True
        policing = None if self._shared.is_lmtp else self._shared.policing
        self._policing = policing if policing is not None and policing.concerns(self.peer, self.local) else None
        if self._policing is not None and (denial := await self._policing.admit(self.peer)) is not None:
            self._hang_up(denial.reply)
        self._write(reply(220, "", f"{self.hostname} {'LMTP' if self._shared.is_lmtp else 'ESMTP'} Postwerk"))

    def _forget(self) -> None:
        self._end_transaction()
        if self._is_admitted:
            self._shared.release(self)

    async def _execute(self, line: bytes) -> None:
        self._command_count += 1
        if self._command_count > self._limits.command_limit:
            self._hang_up(replies.TOO_MANY_COMMANDS)
        command = parse_command(line, self._offered)
        kind = type(command)
        if kind in _JUNK:
            self._junk_count += 1
            if self._junk_count > self._limits.junk_command_limit:
                self._hang_up(replies.TOO_MANY_COMMANDS)
        if kind is Rcpt and not line.isascii() and not self._may_be_utf8():
            raise CommandError(NEEDS_SMTPUTF8)
        await self.verbs[kind](self, command)

    def _may_be_utf8(self) -> bool:
        """Whether RCPT may have UTF-8 in its path and ORCPT: if MAIL announced it (RFC 6531 §3.4, RFC 6533 §3)."""
        return self._transaction is None or self._transaction.mail.parameters.is_smtputf8

    def _refuse(self, answer: Reply) -> None:
        self._write(answer)
        self._error_count += 1
        if self._error_count >= self._limits.error_limit:
            self._hang_up(replies.TOO_MANY_ERRORS)

    def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.file.discard()
            if transaction.refused:
                note_refusals(self._shared.recorder, transaction, self._origin(transaction))

    # -- session commands -------------------------------------------------------------------------------------------

    async def _hello(self, command: Hello) -> None:
        if (command.verb == "LHLO") != self._shared.is_lmtp:
            return self._refuse(replies.WRONG_HELLO_LMTP if self._shared.is_lmtp else replies.WRONG_HELLO)
        assert self.session is not None
        self._end_transaction()  # RFC 5321 §4.1.4
        self._known_origin = None
        self.session.host_name = command.domain
        self.session.extended_smtp = command.verb != "HELO"
        if not self.session.extended_smtp:
            return self._write(reply(250, "", self.hostname))
        self._offered = self._mail_parameters()
        return self._write(reply(250, "", self.hostname, *self._keywords()))

    def _keywords(self) -> list[str]:
        """What EHLO and LHLO tell of here and now."""
        keywords = ["PIPELINING", f"SIZE {self._limits.size_limit:d}", "8BITMIME", "SMTPUTF8", "CHUNKING"]
        keywords += ["ENHANCEDSTATUSCODES", "DSN"]
        if not self._shared.is_lmtp:
            keywords.append(f"LIMITS RCPTMAX={self._limits.recipient_limit}")
        if self.is_secure and not self._shared.is_lmtp:
            keywords.append("REQUIRETLS")  # RFC 8689 §2: only within TLS
        if self.tls_context is not None and not self.is_secure:
            keywords.append("STARTTLS")
        return keywords

    def _mail_parameters(self) -> AbstractSet[str]:
        """The parameters of MAIL that belong to these keywords."""
        return INTAKE_PARAMETERS | TLS_PARAMETERS if self.is_secure and not self._shared.is_lmtp else INTAKE_PARAMETERS

    async def _starttls(self, _: StartTls) -> None:
        if self.is_secure:
            return self._refuse(replies.TLS_TWICE)
        if self.tls_context is None:
            return self._refuse(replies.NO_TLS)
        assert self.session is not None
        self._end_transaction()
        self._write(replies.TLS_READY)
        await self._start_tls(self.tls_context)
        self.session.host_name = None  # RFC 3207 §4.2: what was learned in the clear is forgotten
        self.session.extended_smtp = False
        return None

    async def _auth(self, _: Auth) -> None:
        self._refuse(replies.NO_AUTH)  # mail of users comes by submission (RFC 8314 §3.3)

    async def _rset(self, _: Rset) -> None:
        self._end_transaction()
        self._write(replies.RSET_OK)

    async def _noop(self, _: Noop) -> None:
        self._write(replies.NOOP_OK)

    async def _vrfy(self, _: Vrfy) -> None:
        self._write(replies.VRFY_UNSAID)  # RFC 5321 §7.3

    async def _help(self, _: Help) -> None:
        self._write(replies.HELP_TEXT_LMTP if self._shared.is_lmtp else replies.HELP_TEXT)

    async def _quit(self, _: Quit) -> None:
        self._hang_up(replies.QUIT_OK)

    # -- the envelope -----------------------------------------------------------------------------------------------

    async def _mail(self, command: Mail) -> None:
        assert self.session is not None
        if self.session.host_name is None:
            return self._refuse(replies.LHLO_FIRST if self._shared.is_lmtp else replies.HELLO_FIRST)
        if self._transaction is not None:
            return self._refuse(replies.NESTED_MAIL)
        if command.has_parameters and not self.session.extended_smtp:
            return self._refuse(replies.NO_EXTENSIONS)
        if (command.parameters.size_octets or 0) > self._limits.size_limit:
            return self._refuse(replies.TOO_BIG)
        answer = await self._judge_sender(command)
        if not answer.is_positive:
            return self._write(answer) if answer.is_temporary else self._refuse(answer)
        if self._is_stopping:
            self._hang_up(replies.SHUTTING_DOWN)
        file, trace_id = self._shared.spool.open(), new_transaction_id()
        self._transaction = Transaction(command, file, trace_id=trace_id, begun_at=datetime.now(UTC))
        return self._write(answer)

    async def _judge_sender(self, command: Mail) -> Reply:
        """The reply to a MAIL that may come now."""
        return replies.SENDER_OK

    async def _rcpt(self, command: Rcpt) -> None:
        transaction = self._transaction
        if transaction is None:
            return self._refuse(replies.MAIL_FIRST)
        if transaction.chunks is not None:
            return self._refuse(replies.CHUNKS_BEGUN)
        assert self.session is not None
        if command.has_parameters and not self.session.extended_smtp:
            return self._refuse(replies.NO_EXTENSIONS)
        if transaction.recipient_count + len(transaction.refused) >= self._limits.recipient_limit:
            return self._write(replies.TOO_MANY_RECIPIENTS)  # no error: the client sends the rest later
        try:
            found = await self._resolve(command, transaction)
            refusal = await self._judge_recipient(command, transaction, found)
            if refusal is not None:
                return await self._refuse_recipient(command, transaction, refusal)
        except StorageError:
            return await self._refuse_recipient(command, transaction, Refuse(replies.UNAVAILABLE, ""))
        assert not isinstance(found, Reply)
        transaction.named.append(command)
        if isinstance(found, Recipient):
            transaction.addressees.append(Addressee(command, found))
        elif isinstance(found, Returned):
            transaction.returned.append(Rerouted(command, found))
        elif isinstance(found, Forwarded):
            self._take_forwarded(transaction, found)
            if found.is_expanded:
                transaction.expanded.append(found)
        else:
            transaction.remote.append(command)
        return self._write(replies.RECIPIENT_OK)

    async def _judge_recipient(self, command: Rcpt, transaction: Transaction, found: Found) -> Refuse | None:
        """Why the recipient does not get the message, who it is or what is known of the client."""
        if isinstance(found, Reply):
            return Refuse(found, "")
        if self._policing is None or not isinstance(found, Recipient | Forwarded):
            return None
        return await self._policing.judge(transaction, self._origin(transaction), command, found)

    async def _refuse_recipient(self, command: Rcpt, transaction: Transaction, refusal: Refuse) -> None:
        """Answer, and note it for whoever may know of it: the tenant of a user, or else that of the recipient's domain."""
        transaction.has_refused_recipients = True
        metrics.recipients_refused.labels(refusal.reply.code).inc()
        tenant_id = None if self.identity is None else self.identity.tenant_id
        with suppress(StorageError):
            domain = command.forward_path.domain or self._shared.postmaster.domain
            tenant_id = tenant_id or await self._shared.directory.tenant_of(domain)
        if tenant_id is not None:
            transaction.refused.append(RefusedRecipient(command, tenant_id, refusal.reply, refusal.reason))
        if refusal.reply is replies.MAILBOX_UNKNOWN and self._policing is not None:
            dismissal = await self._policing.miss(self.peer)
            if dismissal is not None:
                self._hang_up(dismissal.reply)
        if self._shared.is_lmtp or refusal.reply.is_temporary:
            return self._write(refusal.reply)  # LMTP clients did not choose the recipients
        return self._refuse(refusal.reply)

    def _take_forwarded(self, transaction: Transaction, forwarded: Forwarded) -> None:
        transaction.forwarded.append(forwarded)

    async def _resolve(self, command: Rcpt, transaction: Transaction) -> Found:
        """Where mail for the recipient goes; None: elsewhere, by the queue. Raises UnavailableError."""
        path = command.forward_path
        if transaction.mail.reverse_path is None and not self._shared.is_lmtp and is_rewritten(path.local_part):
            returned = await self._shared.forwarding.reverse_of(path)
            if returned is not None:
                return returned
        return await self._resolve_local(command, transaction)

    async def _resolve_local(self, command: Rcpt, transaction: Transaction) -> Recipient | Forwarded | Reply:
        directory, postmaster, forward_path = self._shared.directory, self._shared.postmaster, command.forward_path
        wanted = forward_path if forward_path.domain else postmaster
        found = await directory.destination(wanted.local_part, wanted.domain)
        if found is None:
            if forward_path.domain and not await directory.domain_is_local(wanted.domain):
                return replies.RELAY_DENIED
            if wanted.local_part.lower() == "postmaster":  # every domain has one, RFC 5321 §4.5.1
                wanted = postmaster
                found = await directory.destination(wanted.local_part, wanted.domain)
            if found is None:
                return replies.MAILBOX_UNKNOWN
        if found.is_plain and found.recipient is not None:
            return refusal_of(found.recipient, self._limits) or found.recipient
        forwards = Forwards(directory, self._shared.forwarding, self._limits)
        return await forwards.expanded(command, wanted, found, transaction.mail.reverse_path)

    # -- the message ------------------------------------------------------------------------------------------------

    def _message_refusal(self) -> Reply | None:
        """Why no message may come now."""
        transaction = self._transaction
        if transaction is None:
            return replies.MAIL_FIRST
        if transaction.recipient_count:
            return None
        if not transaction.has_refused_recipients:
            return replies.RCPT_FIRST
        return replies.NO_RECIPIENTS_LMTP if self._shared.is_lmtp else replies.NO_RECIPIENTS

    async def _data(self, _: Data) -> None:
        refusal = self._message_refusal()
        transaction = self._transaction
        if transaction is not None and transaction.chunks is not None:
            refusal = replies.CHUNKS_BEGUN
        if transaction is not None and transaction.is_binary:
            refusal = replies.BDAT_ONLY
        if refusal is not None:
            return self._refuse(refusal)
        assert transaction is not None
        self._write(replies.GO_AHEAD)
        transaction.ends_at = self.loop.time() + self._limits.data_time_limit
        data = DataReader()
        while not data.is_complete:
            self._collect(transaction, data.receive(await self._next_octets(PIECE_OCTETS, transaction.ends_at)))
        self._reader.put_back(data.rest)
        if data.has_bare_line_end:
            transaction.refuse(replies.BARE_LINE_END)
        return await self._finish(transaction)

    async def _bdat(self, command: Bdat) -> None:
        transaction = self._transaction
        refusal = self._message_refusal()
        if refusal is not None or transaction is None:
            # The chunk follows the command whatever we think of it (RFC 3030 §2).
            ends_at = self.loop.time() + self._limits.data_time_limit
            await self._receive_chunk(None, ChunkReader(), command.size_octets, ends_at)
            return self._refuse(refusal or replies.MAIL_FIRST)
        if transaction.chunks is None:
            transaction.chunks = ChunkReader()
            transaction.ends_at = self.loop.time() + self._limits.data_time_limit
        if transaction.file.size_octets + command.size_octets > self._limits.size_limit:
            transaction.refuse(replies.TOO_BIG)
        await self._receive_chunk(transaction, transaction.chunks, command.size_octets, transaction.ends_at)
        if command.is_last:
            if transaction.chunks.finish() and not transaction.is_binary:
                transaction.refuse(replies.BARE_LINE_END)
            return await self._finish(transaction)
        if transaction.refusal is not None:
            # Every further chunk is refused too, until RSET or the last one: the transaction has failed (RFC 3030 §2).
            return self._refuse(transaction.refusal)
        return self._write(reply(250, "2.0.0", f"{command.size_octets} octets received"))

    async def _receive_chunk(
        self, transaction: Transaction | None, chunks: ChunkReader, size_octets: int, ends_at: float
    ) -> None:
        chunks.begin(size_octets)
        while chunks.missing_octets:
            octets = await self._next_octets(min(chunks.missing_octets, PIECE_OCTETS), ends_at)
            piece = chunks.receive(octets)
            if transaction is not None:
                self._collect(transaction, piece)

    async def _next_octets(self, limit_octets: int, ends_at: float) -> bytes:
        """Octets of a message; waits for them. Raises HangUpError when the message cannot come whole any more."""
        octets = self._reader.take(limit_octets)
        while not octets:
            if not await self._wait(ends_at):
                raise HangUpError
            octets = self._reader.take(limit_octets)
        if self.loop.time() > ends_at:  # it drips steadily, but too slowly
            self._hang_up(replies.TIMED_OUT)
        return octets

    def _collect(self, transaction: Transaction, piece: bytes) -> None:
        if transaction.refusal is not None:
            return
        if transaction.file.size_octets + len(piece) > self._limits.size_limit:
            transaction.refuse(replies.TOO_BIG)
            return
        try:
            transaction.file.write(piece)
        except UnavailableError:
            transaction.refuse(replies.DISK_FULL)

    async def _finish(self, transaction: Transaction) -> None:
        """The message is complete: answer for it, once, or once per recipient over LMTP, and close the transaction."""
        try:
            if transaction.refusal is not None:
                answers = [transaction.refusal] * transaction.answer_count
            elif self.transport is None:
                raise HangUpError  # nobody would hear that we took it: the client sends it again
            else:
                answers = await self._accept(transaction)
        finally:
            self._end_transaction()
        if not self._shared.is_lmtp:
            del answers[1:]
        if any(answer.is_positive for answer in answers):
            self._junk_count = self._error_count = 0
            for answer in answers:
                self._write(answer)
            return
        for answer in answers[:-1]:
            self._write(answer)
        self._refuse(answers[-1])

    async def _accept(self, transaction: Transaction) -> list[Reply]:
        return await self._shared.acceptance.accept(
            transaction, self._origin(transaction), is_lmtp=self._shared.is_lmtp
        )

    def _origin(self, transaction: Transaction) -> Origin:
        assert self.session is not None
        is_smtputf8 = transaction.mail.parameters.is_smtputf8
        if self._known_origin is not None and self._known_origin[0] == is_smtputf8:
            return self._known_origin[1]
        tls: tuple[str, str] | None = None
        if (secured := self.tls) is not None:
            cipher = secured.cipher()
            tls = (secured.version() or "", cipher[0] if cipher else "")
        protocol = with_protocol(
            is_extended=self.session.extended_smtp,
            is_lmtp=self._shared.is_lmtp,
            is_secure=tls is not None,
            is_authenticated=self.identity is not None,
            is_smtputf8=is_smtputf8,
        )
        origin = Origin(self.peer, self.session.host_name or "", protocol, tls, self.identity)
        self._known_origin = (is_smtputf8, origin)
        return origin


_JUNK = {Hello, Rset, Noop, Vrfy, Help}
Session.verbs = {
    Hello: Session._hello,
    StartTls: Session._starttls,
    Auth: Session._auth,
    Rset: Session._rset,
    Noop: Session._noop,
    Vrfy: Session._vrfy,
    Help: Session._help,
    Quit: Session._quit,
    Mail: Session._mail,
    Rcpt: Session._rcpt,
    Data: Session._data,
    Bdat: Session._bdat,
}

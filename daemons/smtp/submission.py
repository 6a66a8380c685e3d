"""Submission, RFC 6409: what is different for users. They log in first, in TLS, and write to anybody, but in their own name only.

The order of commands is that of daemons/smtp/session.py, with AUTH (RFC 4954) between the greeting and the first MAIL.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.submission import Submission as Limits
from daemons.authentication import ActingError, Authenticator, DeniedError, Exchange, Identity, Origin
from daemons.forwarding import Returned
from daemons.logs import logger
from daemons.outgoing import is_routable
from daemons.smtp import replies
from daemons.smtp.conversation import HangUpError
from daemons.smtp.sending import Sending
from daemons.smtp.session import Session, Shared
from daemons.smtp.submitted import Submitted
from daemons.smtp.transaction import Forwarded, Transaction
from daemons.sockets import Networks
from protocol import sasl
from protocol.smtp.command import Auth, Mail, Rcpt, StartTls
from protocol.smtp.parameters import (
    FUTURE_RELEASE_PARAMETERS,
    SUBMISSION_PARAMETERS,
    TLS_PARAMETERS,
    CommandError,
    MailParameters,
)
from protocol.smtp.reply import Reply, reply
from storage.errors import StorageError
from storage.rows import Recipient
from storage.senders import Senders

log = logger("submission")


@dataclass(frozen=True, slots=True)
class Service:
    """What all sessions of users have in common, besides what all sessions have."""

    limits: Limits
    authenticator: Authenticator
    senders: Senders
    sending: Sending
    submitted: Submitted
    trusted: Networks


class Submission(Session):
    """One session of a user."""

    def __init__(self, shared: Shared, service: Service) -> None:
        super().__init__(shared)
        self._service = service
        self._failed_logins = 0
        self._login_origin: Origin | None = None  # as of the last EHLO

    @property
    def is_trusted(self) -> bool:
        """Whether failed logins from there are not slowed."""
        return self.peer in self._service.trusted

    # -- greeting ---------------------------------------------------------------------------------------------------

    def _keywords(self) -> list[str]:
        keywords = super()._keywords()
        keywords += ["BINARYMIME", "DELIVERBY", "MT-PRIORITY MIXER"]
        limit_seconds = int(self._service.limits.future_release_limit)
        if limit_seconds:
            until = datetime.now(UTC) + timedelta(seconds=limit_seconds)
            keywords.append(f"FUTURERELEASE {limit_seconds} {until:%Y-%m-%dT%H:%M:%SZ}")
        if self.is_secure and self.identity is None:
            assert self.session is not None
            self._login_origin = self._service.authenticator.origin(
                self, "smtp", allows_cleartext=False, client=self.session.host_name or ""
            )
            names = self._service.authenticator.mechanisms(self._login_origin)
            keywords.append(f"AUTH {b' '.join(names).decode()}")
        return keywords

    def _mail_parameters(self) -> AbstractSet[str]:
        offered = SUBMISSION_PARAMETERS
        if self._service.limits.future_release_limit:
            offered |= FUTURE_RELEASE_PARAMETERS
        return offered | TLS_PARAMETERS if self.is_secure else offered

    async def _starttls(self, command: StartTls) -> None:
        if self.identity is not None:
            return self._refuse(replies.TLS_TWICE)
        return await super()._starttls(command)

    # -- logging in -------------------------------------------------------------------------------------------------

    async def _auth(self, command: Auth) -> None:
        assert self.session is not None
        if not self.is_secure:
            return self._refuse(replies.AUTH_NEEDS_TLS)
        if self.session.host_name is None or not self.session.extended_smtp:
            return self._refuse(replies.HELLO_FIRST)
        if self.identity is not None:
            return self._refuse(replies.AUTH_TWICE)
        if self._transaction is not None:
            return self._refuse(replies.AUTH_IN_TRANSACTION)
        assert self._login_origin is not None, "an EHLO within TLS came before"
        exchange = self._service.authenticator.exchange(command.mechanism, self._login_origin)
        if exchange is None:
            return self._refuse(replies.MECHANISM_UNKNOWN)
        try:
            initial = None if command.initial is None else sasl.decode_initial(command.initial)
            identity = await self._exchanged(exchange, initial)
        except sasl.CancelledError:
            return self._refuse(replies.AUTH_CANCELLED)
        except sasl.SaslError:
            return self._refuse(replies.AUTH_MALFORMED)
        except DeniedError as error:
            return self._denied(error)
        except StorageError:
            return self._write(replies.AUTH_UNAVAILABLE)
        self.identity = identity
        self._known_origin = None
        self._junk_count = self._error_count = 0
        return self._write(replies.AUTH_OK)

    async def _exchanged(self, exchange: Exchange, initial: bytes | None) -> Identity:
        step = await exchange.step(initial)
        while isinstance(step, sasl.Challenge):
            self._write(reply(334, "", sasl.encode_challenge(step).decode()))
            step = await exchange.step(sasl.decode_response(await self._response()))
        return step

    async def _response(self) -> bytes:
        """The next line of the exchange. Raises CommandError for one that is too long, HangUpError at the end."""
        while True:
            try:
                line = self._reader.take_line(self._limits.line_limit)
            except CommandError as error:
                is_long = error.reply == replies.LINE_TOO_LONG
                raise CommandError(replies.AUTH_LINE_TOO_LONG if is_long else error.reply) from None
            if line is not None:
                return line
            if not await self._wait():
                raise HangUpError

    def _denied(self, error: DeniedError) -> None:
        log.info("login failed")
        self._failed_logins += 1
        if self._failed_logins >= self._service.limits.login_failure_limit:
            self._write(replies.AUTH_FAILED)
            self._hang_up(replies.TOO_MANY_LOGINS)
        self._refuse(replies.AUTH_ACTING if isinstance(error, ActingError) else replies.AUTH_FAILED)

    # -- the envelope -----------------------------------------------------------------------------------------------

    async def _judge_sender(self, command: Mail) -> Reply:
        identity = self.identity
        if identity is None:
            return replies.AUTH_FIRST if self.is_secure else replies.TLS_FIRST
        refusal = self._service.sending.check(identity) or self._judge_time(command.parameters)
        if refusal is not None:
            return refusal
        reverse_path = command.reverse_path
        try:
            # Anybody may send with the null reverse-path: disposition notifications have it (RFC 8098 §3).
            if reverse_path is not None and not await self._service.senders.may_send(
                identity.account_id, reverse_path.local_part, reverse_path.domain
            ):
                return replies.SENDER_NOT_OWN
        except StorageError:
            return replies.UNAVAILABLE
        limit, wanted = self._service.limits.priority_limit, command.parameters.priority
        if wanted is not None and wanted > limit:
            return reply(250, "2.3.6", f"{limit} is the new priority of the message")  # RFC 6710 §4.1
        return replies.SENDER_OK

    def _judge_time(self, parameters: MailParameters) -> Reply | None:
        """Why the message cannot be held back for so long (RFC 4865 §4)."""
        limit_seconds = self._service.limits.future_release_limit
        hold_for_seconds: float = parameters.hold_for_seconds or 0
        if parameters.hold_until is not None:
            hold_for_seconds = (parameters.hold_until - datetime.now(UTC)).total_seconds()
            if hold_for_seconds < 0:
                return replies.HOLD_IS_OVER
        return replies.HOLD_TOO_LONG if hold_for_seconds > limit_seconds else None

    def _take_forwarded(self, transaction: Transaction, forwarded: Forwarded) -> None:
        # The sender is ours, so its name stays; and what waits in the queue waits for those who get it.
        transaction.addressees += forwarded.local
        transaction.remote += [each.rcpt for each in forwarded.onward]

    async def _resolve(
        self, command: Rcpt, transaction: Transaction
    ) -> Recipient | Forwarded | Returned | Reply | None:
        identity, forward_path = self.identity, command.forward_path
        assert identity is not None, "MAIL is refused before the login"
        refusal = self._service.sending.check(identity)
        if refusal is not None:
            return refusal
        domain = forward_path.domain
        if domain and not await self._shared.directory.domain_is_local(domain):
            return None if is_routable(domain) else replies.DOMAIN_UNROUTABLE
        return await self._resolve_local(command, transaction)

    # -- the message ------------------------------------------------------------------------------------------------

    async def _accept(self, transaction: Transaction) -> list[Reply]:
        return await self._service.submitted.accept(transaction, self._origin(transaction), is_lmtp=False)


Submission.verbs = {**Session.verbs, Auth: Submission._auth, StartTls: Submission._starttls}

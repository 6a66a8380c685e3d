"""Commands of any state and of the not authenticated state: RFC 3501 §6.1, §6.2, ID (RFC 2971)."""

from contextlib import suppress

from daemons.access.imap import capabilities
from daemons.access.imap.session import Completion, RefusalError, Session
from daemons.authentication import ActingError, DeniedError, Identity
from daemons.logs import logger
from protocol import sasl
from protocol.imap import command, response
from protocol.imap.events import Line
from storage.errors import StorageError

log = logger("imap")

_CLIENT_CHARACTERS = 500
_PRODUCT: dict[bytes, bytes | None] = {b"name": b"Postwerk"}


async def capability(session: Session, _: command.Capability) -> Completion:
    """CAPABILITY, RFC 3501 §6.1.1."""
    session.put(response.capability(capabilities.tokens(session)))
    return Completion("done")


async def noop(_session: Session, _: command.Noop | command.Check) -> Completion:
    """NOOP and CHECK, RFC 3501 §6.1.2, §6.4.1: the synchronisation that follows every command is all there is to do."""
    return Completion("done")


async def logout(session: Session, _: command.Logout) -> Completion:
    """LOGOUT, RFC 3501 §6.1.3."""
    session.deselect()
    session.bye("logging out")
    return Completion("bye")


async def identify(session: Session, given: command.Id) -> Completion:
    """ID, RFC 2971 §3.1. What the client says of itself tells who uses what: it is kept for attack events alone."""
    if session.identity is None:
        parameters = (given.parameters or {}).items()
        told = " ".join(f"{_text(name)}={_text(value)}" for name, value in parameters if value is not None)
        session.client = told[:_CLIENT_CHARACTERS]
    session.put(response.identification(_PRODUCT))
    return Completion("done")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


async def start_tls(session: Session, requested: command.StartTls) -> Completion | None:
    """STARTTLS, RFC 3501 §6.2.1."""
    context = session.shared.context.tls
    if context is None or not capabilities.may_start_tls(session):
        raise RefusalError.bad("TLS is on already" if session.connection.is_secure else "TLS is not available")
    await session.start_tls(context, response.tagged(requested.tag, "OK", None, "begin TLS negotiation now"))
    return None


async def unauthenticate(session: Session, _: command.Unauthenticate) -> Completion | None:
    """UNAUTHENTICATE, RFC 8437 §3. May be sent together with the next AUTHENTICATE.

    All but TLS is to be undone, and DEFLATE has no end that both sides see at the same octet: then the session ends, as
    the section allows where something cannot be reset.
    """
    if session.connection.is_compressed:
        session.deselect()
        session.bye("compression stays on until the connection ends")
        return None
    session.log_out()
    return Completion("logged out", b"CAPABILITY " + b" ".join(capabilities.tokens(session)))


async def login(session: Session, given: command.Login) -> Completion:
    """LOGIN, RFC 3501 §6.2.3."""
    if not capabilities.may_log_in(session):
        raise RefusalError.no(b"PRIVACYREQUIRED", "start TLS first")
    try:
        user, password = given.user.decode(), given.password.decode()
    except UnicodeDecodeError:
        raise RefusalError.no(b"AUTHENTICATIONFAILED", "login and password must be UTF-8") from None
    identity = await session.shared.authenticator.verify(user, password, capabilities.origin(session))
    if identity is None:
        raise _failed(session)
    return await _logged_in(session, identity)


async def authenticate(session: Session, given: command.Authenticate) -> Completion:
    """AUTHENTICATE, RFC 3501 §6.2.2, with RFC 4959's initial response."""
    origin = capabilities.origin(session)
    if not origin.is_protected:
        raise RefusalError.no(b"PRIVACYREQUIRED", "start TLS first")
    exchange = session.shared.authenticator.exchange(given.mechanism, origin)
    if exchange is None:
        raise RefusalError.no(b"CANNOT", "unknown mechanism")
    try:
        step = await exchange.step(given.initial)
        while isinstance(step, sasl.Challenge):
            session.put(b"+ " + sasl.encode_challenge(step) + b"\r\n")
            session.reader.expect_line()
            event = await session.next_event()
            if not isinstance(event, Line):
                raise RefusalError.bad("the exchange was broken off")
            step = await exchange.step(sasl.decode_response(event.octets))
    except sasl.CancelledError:
        raise RefusalError.bad("cancelled") from None
    except sasl.SaslError as error:
        raise RefusalError.bad(str(error)) from None
    except ActingError:
        session.failed_logins += 1
        raise RefusalError.no(b"AUTHORIZATIONFAILED", "nobody may act for another here") from None
    except DeniedError:
        raise _failed(session) from None
    return await _logged_in(session, step)


def _failed(session: Session) -> RefusalError:
    session.failed_logins += 1
    log.info("login failed")
    return RefusalError.no(b"AUTHENTICATIONFAILED", "login or password is wrong")


async def _logged_in(session: Session, identity: Identity) -> Completion:
    session.log_in(identity)
    with suppress(StorageError):  # not worth a failed login: the next one notes it
        await session.shared.fetches.note(identity.account_id)
    return Completion("logged in", b"CAPABILITY " + b" ".join(capabilities.tokens(session)))

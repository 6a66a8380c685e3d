"""The capability line, RFC 3501 §7.2.1: what works here and now, and nothing else.

tests/daemons/imap/test_capabilities.py fails for a token without a test.
"""

from config.listen import split_address
from daemons.access.imap.session import Session, State
from daemons.authentication import Origin

_MANAGESIEVE_PORT = 4190  # RFC 5804 §1.8
BEFORE_LOGIN = (b"IMAP4rev1", b"IMAP4rev2", b"SASL-IR", b"LITERAL+", b"ID", b"ENABLE")
AFTER_LOGIN = (
    b"IMAP4rev1",
    b"IMAP4rev2",
    b"LITERAL+",
    b"ID",
    b"ENABLE",
    b"IDLE",
    b"NAMESPACE",
    b"CHILDREN",
    b"UNSELECT",
    b"UIDPLUS",
    b"MOVE",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"LIST-MYRIGHTS",
    b"STATUS=SIZE",
    b"ACL",
    b"RIGHTS=texk",
    b"ESEARCH",
    b"SEARCHRES",
    b"WITHIN",
    b"PARTIAL",
    b"SORT",
    b"SORT=DISPLAY",
    b"ESORT",
    b"THREAD=ORDEREDSUBJECT",
    b"THREAD=REFERENCES",
    b"THREAD=REFS",
    b"CONTEXT=SEARCH",
    b"CONTEXT=SORT",
    b"SEARCH=FUZZY",
    b"I18NLEVEL=1",
    b"MULTISEARCH",
    b"METADATA",
    b"METADATA-SERVER",
    b"LIST-METADATA",
    b"NOTIFY",
    b"QUOTA",
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
    b"QUOTASET",
    b"PREVIEW",
    b"OBJECTID",
    b"SAVEDATE",
    b"MULTIAPPEND",
    b"CATENATE",
    b"URL-PARTIAL",
    b"BINARY",
    b"REPLACE",
    b"UTF8=ACCEPT",
    b"CONDSTORE",
    b"QRESYNC",
    b"UIDONLY",
    b"UIDBATCHES",
    b"UNAUTHENTICATE",
    b"INPROGRESS",
    b"COMPRESS=DEFLATE",
)


def tokens(session: Session) -> tuple[bytes, ...]:
    """What the session offers in its present state."""
    if session.state is not State.NOT_AUTHENTICATED:
        append_limit = b"APPENDLIMIT=%d" % session.shared.settings.append_limit
        return (*AFTER_LOGIN, append_limit, _message_limit(session), *_event_scripts(session))
    starts_tls = (b"STARTTLS",) if may_start_tls(session) else ()
    mechanisms = session.shared.authenticator.mechanisms(origin(session))
    return (*BEFORE_LOGIN, *starts_tls, *([b"AUTH=" + name for name in mechanisms] or [b"LOGINDISABLED"]))


def _message_limit(session: Session) -> bytes:
    """One of the two (RFC 9738 §3)."""
    settings = session.shared.settings
    if settings.message_limit:
        return b"MESSAGELIMIT=%d" % settings.message_limit
    return b"SAVELIMIT=%d" % settings.save_limit


def _event_scripts(session: Session) -> tuple[bytes, ...]:
    """Where the scripts come from that run after what happens in mailboxes (RFC 6785 §2.1); none without such a place."""
    settings = session.shared.context.settings
    if not settings.listen.managesieve:
        return ()
    _, port = split_address(settings.listen.managesieve[0])
    place = settings.hostname if port in (0, _MANAGESIEVE_PORT) else f"{settings.hostname}:{port}"
    return (b"IMAPSIEVE=sieve://" + place.encode(),)


def may_start_tls(session: Session) -> bool:
    """STARTTLS is offered until TLS is on (RFC 3501 §6.2.1); below DEFLATE it cannot begin any more (RFC 4978 §3)."""
    connection = session.connection
    return session.shared.context.tls is not None and not (connection.is_secure or connection.is_compressed)


def origin(session: Session) -> Origin:
    """Where the session's attempts to log in come from, as its connection is now."""
    allows_cleartext = session.shared.settings.cleartext_authentication
    authenticator, connection = session.shared.authenticator, session.connection
    return authenticator.origin(connection, "imap", allows_cleartext=allows_cleartext, client=session.client)


def may_log_in(session: Session) -> bool:
    """Whether a password may be sent: in TLS only (RFC 3501 §11.1), unless the configuration says otherwise."""
    return session.connection.is_secure or session.shared.settings.cleartext_authentication

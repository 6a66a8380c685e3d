"""ENABLE, RFC 5161: what is enabled stays so until the session ends or UNAUTHENTICATE."""

from daemons.access.imap import notify
from daemons.access.imap.session import Completion, Session
from protocol.imap import command, response

# As RFC 5161 §3.2 tells them; by name in upper case. What they imply is Session.enable()'s.
_ANNOTATIONS = (b"METADATA", b"METADATA-SERVER")
_TOKENS = (b"CONDSTORE", b"IMAP4rev2", *_ANNOTATIONS, b"QRESYNC", b"UIDONLY", b"UTF8=ACCEPT")
_KNOWN = {token.upper(): token for token in _TOKENS}


async def enable(session: Session, asked: command.Enable) -> Completion:
    """ENABLE, RFC 5161 §3.1; unknown names are passed over."""
    found = [token for token in asked.capabilities if token in _KNOWN]
    for token in found:
        session.enable(token)
    if not session.enabled.isdisjoint(_ANNOTATIONS):
        await notify.enable_metadata(session)
    session.put(response.enabled(_KNOWN[token] for token in found))
    return Completion("done")

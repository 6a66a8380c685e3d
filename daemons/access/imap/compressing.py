"""COMPRESS, RFC 4978: DEFLATE below IMAP, within TLS where that is on."""

from daemons.access.imap.session import Completion, RefusalError, Session
from protocol.imap import compress as command
from protocol.imap import response


async def compress(session: Session, asked: command.Compress) -> Completion | None:
    """COMPRESS, RFC 4978 §3. Allowed after the login only: nobody compresses passwords, and strangers get no inflater."""
    if asked.algorithm != b"DEFLATE":
        raise RefusalError.bad("DEFLATE is the only algorithm")
    if session.connection.is_compressed:
        raise RefusalError.no(b"COMPRESSIONACTIVE", "DEFLATE is active already")
    await session.start_compression(response.tagged(asked.tag, "OK", None, "DEFLATE active"))
    return None

"""SpamAssassin's spamd: the request SYMBOLS of its protocol, and the response. No I/O."""

import math
import re

from filters.spam.engines import EngineError, Judgement, on_our_scale

RESPONSE_OCTETS = 64 << 10  # of a response that are read

_STATUS = re.compile(rb"SPAMD/[0-9.]+ (\d+) ([^\r\n]*)\r?\n", re.ASCII)
_SPAM = re.compile(
    rb"^Spam: *(?:True|False|Yes|No) *; *(-?[0-9.]+) */ *(-?[0-9.]+) *\r?$", re.ASCII | re.IGNORECASE | re.MULTILINE
)
_NAME = re.compile(rb"[A-Z0-9_]+", re.ASCII)


def request(size_octets: int, user: str = "") -> bytes:
    """What goes before the message. `user`: whose rules and whose Bayes are asked; "": everybody's."""
    head = f"SYMBOLS SPAMC/1.5\r\nContent-length: {size_octets}\r\n"
    if user and user.isascii() and user.isprintable():
        head += f"User: {user}\r\n"
    return f"{head}\r\n".encode("ascii")


def read(octets: bytes) -> Judgement:
    """The response, on our scale: its threshold is told with it. Raises EngineError."""
    head, _, body = octets.partition(b"\r\n\r\n")
    status = _STATUS.match(head + b"\r\n")
    if status is None:
        raise EngineError("spamd: no response that can be read")
    if status[1] != b"0":
        raise EngineError(f"spamd: {status[2].decode('ascii', 'replace')}")
    found = _SPAM.search(head)
    try:
        score, threshold = (float(found[1]), float(found[2])) if found else (math.nan, math.nan)
    except ValueError:
        raise EngineError("spamd: no score") from None
    return Judgement(on_our_scale(score, threshold), [name.decode() for name in _NAME.findall(body)])

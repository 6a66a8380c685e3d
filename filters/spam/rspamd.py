"""What rspamd is asked over HTTP (POST /checkv2), and what it answers. No I/O."""

import json
from collections.abc import Mapping
from typing import Any

from filters.spam.engines import REFUSED, EngineError, Judgement, on_our_scale
from filters.subject import Envelope

PATH = "/checkv2"
ADDS_HEADER = 6.0  # rspamd's own threshold for spam, as it is delivered
_RECIPIENTS = 100  # that it is told


def headers(envelope: Envelope, hostname: str, password: str = "") -> list[tuple[str, str]]:
    """The envelope, as fields of the request. Nothing in them can begin another field."""
    told = [
        ("IP", envelope.peer.partition("%")[0]),
        ("Helo", envelope.helo),
        ("From", str(envelope.reverse_path or "")),
        ("Queue-Id", envelope.transaction_id),
        ("MTA-Name", hostname),
        ("Password", password),
        *(("Rcpt", str(path)) for path in envelope.forward_paths[:_RECIPIENTS]),
    ]
    return [(name, value) for name, value in told if value and value.isprintable() and value.isascii()]


def read(octets: bytes, *, spam_at: float = ADDS_HEADER) -> Judgement:
    """The answer. `spam_at`: the score from which on rspamd marks mail. Raises EngineError."""
    try:
        answer = json.loads(octets)
        score, action = float(answer["score"]), str(answer["action"])
        symbols: Mapping[str, Any] = answer.get("symbols") or {}
        weights = {name: float(symbol.get("score") or 0.0) for name, symbol in symbols.items()}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise EngineError(f"rspamd: no answer that can be read ({type(error).__name__})") from None
    points = on_our_scale(score, spam_at)
    if action == "reject":  # it has its own threshold for that, and patterns that need none
        points = max(points, REFUSED)
    named = sorted(weights, key=lambda name: -abs(weights[name]))
    telling = [name for name in named if weights[name]] or named
    return Judgement(points, [name for name in telling if name.isascii() and name.isprintable()])

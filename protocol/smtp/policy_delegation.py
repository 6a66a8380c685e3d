"""Postfix's policy delegation protocol (SMTPD_POLICY_README): what is asked, and what an answer means. Octets in, values out.

request = 1*(name "=" value LF) LF
answer  = "action=" action LF *(name "=" value LF) LF
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from protocol.smtp.reply import Reply, reply

ANSWER_LIMIT = 16 * 1024  # octets of one answer, ours

Kind: TypeAlias = Literal["accept", "refuse", "prepend", "discard", "hold"]

_BREAK = re.compile(r"[\0\r\n]")
_UNPRINTABLE = re.compile(r"[^ -~]")
_CODE = re.compile(r"([45])([0-9]{2})")
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)")
_HEADER = re.compile(r"([!-9;-~]+):[ \t]*(.*)", re.DOTALL)
_TEXT_LIMIT = 400  # characters of a reply
_IGNORED = frozenset({"DUNNO", "OK", "PERMIT", "WARN", "INFO", "NOTE", "DEFER_IF_REJECT"})


class PolicyError(ValueError):
    """The answer is none, or nothing that can be done."""


@dataclass(frozen=True, slots=True)
class Action:
    """What the service wants to be done."""

    kind: Kind
    reply: Reply | None = None  # of "refuse"
    field: tuple[str, str] | None = None  # name and value, of "prepend"
    reason: str = ""


ACCEPT = Action("accept")


def render_request(attributes: Mapping[str, str]) -> bytes:
    """The octets of one question. What has no place in a value is left out of it."""
    lines = [f"{name}={_BREAK.sub('', value)}\n" for name, value in attributes.items()]
    return ("".join(lines) + "\n").encode("utf-8", "replace")


def parse_answer(octets: bytes) -> Action:
    """The octets of one answer, with or without the empty line. Raises PolicyError."""
    for line in octets.decode("utf-8", "replace").split("\n"):
        name, _, value = line.rstrip("\r").partition("=")
        if name == "action":
            return _action(value.strip())
    raise PolicyError("no action in the answer")


def _action(value: str) -> Action:
    word, _, text = value.partition(" ")
    verb, text = word.upper(), text.strip()
    if verb in _IGNORED:
        return ACCEPT
    if verb == "REJECT":
        return _refusal(550, "5.7.1", text)
    if verb in ("DEFER", "DEFER_IF_PERMIT"):
        return _refusal(450, "4.7.1", text)
    if code := _CODE.fullmatch(verb):
        return _refusal(int(verb), f"{code[1]}.7.1", text)
    if verb == "PREPEND":
        field = _HEADER.fullmatch(text)
        if field is None:
            raise PolicyError("PREPEND without a header field")
        return Action("prepend", field=(field[1], _UNPRINTABLE.sub(" ", field[2])), reason="header field added")
    if verb == "DISCARD":
        return Action("discard", reason=text or "discarded")
    if verb == "HOLD":
        return Action("hold", reason=text or "held")
    raise PolicyError(f"action {_UNPRINTABLE.sub('?', verb[:40])!r} is not known here")


def _refusal(code: int, enhanced: str, text: str) -> Action:
    """The reply; the text may bring an enhanced code of the same class with it (RFC 3463)."""
    own = _ENHANCED.match(text)
    if own is not None:
        text = text[own.end() :].strip()
        enhanced = own[0].strip() if own[1] == str(code)[0] else enhanced
    text = _UNPRINTABLE.sub("?", text[:_TEXT_LIMIT]) or "refused by policy"
    return Action("refuse", reply=reply(code, enhanced, text), reason=text)

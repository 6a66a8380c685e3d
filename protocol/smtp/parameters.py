"""The parameters of MAIL and RCPT that we announce: SIZE (RFC 1870), BODY (RFC 6152, RFC 3030), SMTPUTF8 (RFC 6531), DSN
(RFC 3461).

For users also AUTH (RFC 4954), HOLDFOR and HOLDUNTIL (RFC 4865), BY (RFC 2852), MT-PRIORITY (RFC 6710); in TLS REQUIRETLS
(RFC 8689).

Turns the keyword table of the grammar into typed values. A keyword that is unknown or was not offered, or one with a bad
value, is a CommandError with its reply; parameters are never dropped silently.
"""

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from protocol.smtp.grammar import GrammarError, decode_xtext
from protocol.smtp.reply import Reply, reply

_SIZE = re.compile(r"[0-9]{1,20}")  # size-value, RFC 1870 §4
_ADDR_TYPE = re.compile(r"[A-Za-z0-9-]+")
# unitext and its escapes, RFC 6533 §3: \x{...} stands for one character.
_UTF8_ADDRESS = re.compile("(?:[!-*,-<>-\\[\\]-~\u00a0-\U0010ffff]|\\\\x\\{[0-9A-F]{2,6}\\}|\\+[0-9A-F]{2})+")
_UTF8_ESCAPE = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOTIFY = {"SUCCESS", "FAILURE", "DELAY"}
_HOLD_FOR = re.compile(r"[0-9]{1,9}")  # future-release-integer, RFC 4865 §5
# Internet-style-date-time-UTC and its local forms, RFC 3339 §5.6
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)  # by-time ";" by-mode [by-trace], RFC 2852 §4
_PRIORITY = re.compile(r"-?[0-9]")  # priority-value, RFC 6710 §7
ENVID_LIMIT = 100  # characters of xtext, RFC 3461 §4.4
ORCPT_LIMIT = 500  # characters, RFC 3461 §4.2

BAD_SYNTAX = "5.5.4"


class CommandError(Exception):
    """A command that cannot be executed as sent. Carries its reply; the text never repeats what the peer sent."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(answer.lines[0])
        self.reply = answer


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY=, RFC 2852 §4: what is to happen when the time is over."""

    seconds: int  # from the receipt of MAIL; zero or less only with N: the time is over already
    mode: str  # "N": the sender is told of the delay; "R": the message is given back
    is_traced: bool = False  # each relay is to tell the sender that it has passed the message on

    @property
    def told_mode(self) -> str:
        """Mode and trace as they stand on the wire."""
        return f"{self.mode}{'T' if self.is_traced else ''}"


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL may say about the transaction."""

    size_octets: int | None = None  # SIZE=, the client's estimate
    body: str = "7BIT"  # BODY=7BIT, 8BITMIME or BINARYMIME
    is_smtputf8: bool = False
    ret: str | None = None  # RET=FULL or HDRS
    envid: str | None = None  # ENVID=, decoded
    submitter: str | None = None  # AUTH=, decoded; "" for <>: on whose behalf another server says it acts
    hold_for_seconds: int | None = None  # HOLDFOR=
    hold_until: datetime | None = None  # HOLDUNTIL=, aware
    deliver_by: DeliverBy | None = None  # BY=
    priority: int | None = None  # MT-PRIORITY=, -9 to 9
    is_requiretls: bool = False


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT may say about one recipient."""

    notify: tuple[str, ...] | None = None  # NOTIFY=: ("NEVER",) or some of SUCCESS, FAILURE, DELAY; None: not given
    orcpt: str | None = None  # ORCPT=, "addr-type;address" with the address decoded


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


# What MAIL takes of anybody, and of whom else. BINARYMIME is no parameter, but a value of BODY.
INTAKE_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"})
TLS_PARAMETERS = frozenset({"REQUIRETLS"})
SUBMISSION_PARAMETERS = INTAKE_PARAMETERS | {"BINARYMIME", "AUTH", "BY", "MT-PRIORITY"}
FUTURE_RELEASE_PARAMETERS = frozenset({"HOLDFOR", "HOLDUNTIL"})


def mail_parameters(
    parameters: Mapping[str, str | None], offered: AbstractSet[str] = INTAKE_PARAMETERS
) -> MailParameters:
    """Type the parameters of MAIL, of those that are offered. Raises CommandError."""
    if not parameters:
        return NO_MAIL_PARAMETERS
    typed = MailParameters(**_typed(parameters, _MAIL, offered))
    if typed.body == "BINARYMIME" and "BINARYMIME" not in offered:
        raise CommandError(reply(501, BAD_SYNTAX, "BODY: expected 7BIT or 8BITMIME"))
    if typed.hold_for_seconds is not None and typed.hold_until is not None:  # RFC 4865 §4
        raise CommandError(reply(501, BAD_SYNTAX, "HOLDFOR and HOLDUNTIL exclude each other"))
    return typed


def rcpt_parameters(parameters: Mapping[str, str | None]) -> RcptParameters:
    """Type the parameters of RCPT. Raises CommandError."""
    return RcptParameters(**_typed(parameters, _RCPT, _RCPT.keys())) if parameters else NO_RCPT_PARAMETERS


Production = Callable[[str | None], object]


def _typed(
    parameters: Mapping[str, str | None], known: Mapping[str, tuple[str, Production]], offered: AbstractSet[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for keyword, value in parameters.items():
        if keyword not in offered or keyword not in known:
            raise CommandError(reply(555, BAD_SYNTAX, f"parameter {keyword[:32]} is not supported"))
        name, production = known[keyword]
        try:
            values[name] = production(value)
        except GrammarError as error:
            raise CommandError(reply(501, BAD_SYNTAX, f"{keyword}: {error}")) from error
    return values


def _size(value: str | None) -> int:
    if value is None or _SIZE.fullmatch(value) is None:
        raise GrammarError("expected 1 to 20 digits")
    return int(value)


def _body(value: str | None) -> str:
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise GrammarError("expected 7BIT or 8BITMIME")
    return body


def _present(value: str | None) -> bool:
    if value is not None:
        raise GrammarError("expected no value")
    return True


def _ret(value: str | None) -> str:
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise GrammarError("expected FULL or HDRS")
    return ret


def _envid(value: str | None) -> str:
    if not value or len(value) > ENVID_LIMIT:
        raise GrammarError(f"expected 1 to {ENVID_LIMIT} characters of xtext")
    return decode_xtext(value)


def _submitter(value: str | None) -> str:
    if not value:
        raise GrammarError("expected <> or xtext")
    return "" if value == "<>" else decode_xtext(value)


def _hold_for(value: str | None) -> int:
    if value is None or _HOLD_FOR.fullmatch(value) is None:
        raise GrammarError("expected 1 to 9 digits")
    return int(value)


def _hold_until(value: str | None) -> datetime:
    if value is None or _DATE_TIME.fullmatch(value) is None:
        raise GrammarError("expected a date and time of RFC 3339")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise GrammarError("expected a date and time of RFC 3339") from None


def _deliver_by(value: str | None) -> DeliverBy:
    found = _BY.fullmatch(value or "")
    if found is None:
        raise GrammarError("expected seconds;N or seconds;R, with T behind it or without")
    seconds, mode = int(found[1]), found[2].upper()
    if mode == "R" and seconds <= 0:
        raise GrammarError("R needs a time that is still to come")  # RFC 2852 §4
    return DeliverBy(seconds, mode, bool(found[3]))


def _priority(value: str | None) -> int:
    if value is None or _PRIORITY.fullmatch(value) is None:
        raise GrammarError("expected -9 to 9")
    return int(value)


def _notify(value: str | None) -> tuple[str, ...]:
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return ("NEVER",)
    if not set(words) <= _NOTIFY or len(set(words)) != len(words):
        raise GrammarError("expected NEVER, or some of SUCCESS, FAILURE, DELAY")
    return tuple(words)


def _orcpt(value: str | None) -> str:
    address_type, semicolon, address = (value or "").partition(";")
    if not semicolon or not address or len(value or "") > ORCPT_LIMIT or _ADDR_TYPE.fullmatch(address_type) is None:
        raise GrammarError("expected addr-type;address")
    if address_type.lower() != "utf-8":
        return f"{address_type};{decode_xtext(address)}"
    if _UTF8_ADDRESS.fullmatch(address) is None:  # utf-8-addr-xtext or utf-8-addr-unitext, RFC 6533 §3
        raise GrammarError("expected a UTF-8 address")
    return f"{address_type};{_UTF8_ESCAPE.sub(_unescaped, address)}"


def _unescaped(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF or point < 0x20:
        raise GrammarError("expected a UTF-8 address")
    return chr(point)


_MAIL: Mapping[str, tuple[str, Production]] = {
    "SIZE": ("size_octets", _size),
    "BODY": ("body", _body),
    "SMTPUTF8": ("is_smtputf8", _present),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
    "AUTH": ("submitter", _submitter),
    "HOLDFOR": ("hold_for_seconds", _hold_for),
    "HOLDUNTIL": ("hold_until", _hold_until),
    "BY": ("deliver_by", _deliver_by),
    "MT-PRIORITY": ("priority", _priority),
    "REQUIRETLS": ("is_requiretls", _present),
}
_RCPT: Mapping[str, tuple[str, Production]] = {"NOTIFY": ("notify", _notify), "ORCPT": ("orcpt", _orcpt)}

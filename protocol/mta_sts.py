"""MTA-STS, RFC 8461: the record that says there is a policy, the policy, and which hosts it allows. Text in, values out."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

StsMode: TypeAlias = Literal["enforce", "testing", "none"]

MAX_AGE_LIMIT = 31_557_600  # seconds, RFC 8461 §3.2
MX_LIMIT = 1000  # ours: patterns of a policy that are kept

_DELIMITER = re.compile(r"[ \t]*;[ \t]*")
_IDENTIFIER = re.compile(r"[A-Za-z0-9]{1,32}")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*?)[ \t]*")
_MAX_AGE = re.compile(r"[0-9]{1,10}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")


class StsError(ValueError):
    """The policy breaks a rule; the message says which."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy, RFC 8461 §3.2."""

    mode: StsMode
    max_age: int  # seconds
    mx: tuple[str, ...] = ()  # patterns, lower case

    def allows(self, host: str) -> bool:
        """Whether the host, an A-label, is one of its mail exchangers; "*" stands for one label (RFC 8461 §4.1)."""
        name = host.rstrip(".").lower()
        _, _, parent = name.partition(".")
        return name in self.mx or (bool(parent) and f"*.{parent}" in self.mx)

    @property
    def strings(self) -> tuple[str, ...]:
        """Its lines, as reports of TLS have them (RFC 8460 §4.4)."""
        mx = tuple(f"mx: {pattern}" for pattern in self.mx)
        return ("version: STSv1", f"mode: {self.mode}", *mx, f"max_age: {self.max_age}")


def parse_record(texts: Iterable[str]) -> str | None:
    """The policy's id out of the TXT records at _mta-sts; None: there is no policy (RFC 8461 §3.1).

    Several records, or one that breaks the rules, are as good as none.
    """
    records = [text for text in texts if _DELIMITER.split(text, maxsplit=1)[0] == "v=STSv1"]
    if len(records) != 1:
        return None
    fields = [field for field in _DELIMITER.split(records[0].rstrip(" \t"))[1:] if field]
    identifiers = [field.removeprefix("id=") for field in fields if field.startswith("id=")]
    if len(identifiers) != 1 or _IDENTIFIER.fullmatch(identifiers[0]) is None:
        return None
    return identifiers[0]


def parse_policy(text: str) -> StsPolicy:
    """Parse a policy. Of a field that is there twice the first counts, but for mx; unknown ones do not. Raises StsError."""
    first: dict[str, str] = {}
    mx: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise StsError("a line is no field")
        name, value = found[1], found[2]
        if name == "mx":
            mx.append(_pattern(value))
        else:
            first.setdefault(name, value)
    if first.get("version") != "STSv1":
        raise StsError("the version is not STSv1")
    mode = first.get("mode")
    if mode not in ("enforce", "testing", "none"):
        raise StsError("there is no mode that is known")
    age = first.get("max_age", "")
    if _MAX_AGE.fullmatch(age) is None:
        raise StsError("there is no max_age")
    if mode != "none" and not mx:
        raise StsError("there is no mx")
    return StsPolicy(mode, min(int(age), MAX_AGE_LIMIT), tuple(dict.fromkeys(mx)))  # type: ignore[arg-type]


def _pattern(value: str) -> str:
    if _PATTERN.fullmatch(value) is None or len(value) > 255:
        raise StsError("an mx is no host name")
    return value.rstrip(".").lower()

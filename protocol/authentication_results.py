"""The Authentication-Results field, RFC 8601: what we write, and which fields only pretend to be ours."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from protocol.message.header import Field, fields

NAME = "Authentication-Results"
_LINE = 76
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")  # RFC 2045 §5.1
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_UNSAFE = re.compile(r'[^ -~]|[()\\";]')  # the last two are allowed in comments, and simple readers trip over them
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_COMMENT_LIMIT = 200
_SPECIAL = re.compile(rb"\\.|[()]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One resinfo, RFC 8601 §2.2: a method, its result, and what it was found on."""

    method: str
    result: str
    properties: Sequence[tuple[str, str]] = ()  # "smtp.mailfrom" and its value; those without a value are left out
    comment: str = ""  # for people
    reason: str = ""  # for people, too


def render(authserv_id: str, findings: Sequence[Finding]) -> str:
    """The field's body, folded, for filters.verdict.AddField; no findings: "none" (RFC 8601 §2.2)."""
    lines = [_folded([f"{_value(authserv_id)}"])]
    for finding in findings:
        words = [f"{finding.method}={finding.result}"]
        if finding.comment:
            words += f"({_comment(finding.comment)})".split(" ")
        if finding.reason:
            words += f"reason={_quoted(finding.reason)}".split(" ")
        words += [f"{name}={_value(value)}" for name, value in finding.properties if value]
        lines.append(_folded(words))
    return ";\r\n ".join(lines) + ("" if findings else "; none")


def pretended(header: bytes, authserv_ids: Collection[str]) -> list[Field]:
    """The fields of a header section from outside that claim to be ours, RFC 8601 §5. Ids are compared without case.

    A field that cannot be read counts when one of our ids is anywhere in front of its first result: readers differ.
    """
    ours = [authserv_id.lower().encode() for authserv_id in authserv_ids]
    return [
        field
        for field in fields(header)
        if field.name.lower() == b"authentication-results" and _names_one(field.body, ours)
    ]


def _names_one(body: bytes, ours: Sequence[bytes]) -> bool:
    front = body.partition(b";")[0] + b"\n" + _without_comments(body).partition(b";")[0]
    front = front.replace(b"\\", b"").lower()
    # Neither the end nor the beginning of a longer name; a dot behind it is the DNS's root.
    return any(re.search(rb"(?<![a-z0-9.-])%s(?!\.?[a-z0-9-])" % re.escape(each), front) for each in ours)


def _without_comments(body: bytes) -> bytes:
    """The body without comments (RFC 5322 §3.2.2); one that is not closed reaches to the end."""
    kept: list[bytes] = []
    depth = position = 0
    for special in _SPECIAL.finditer(body):
        if special[0] == b"(":
            if not depth:
                kept.append(body[position : special.start()])
            depth += 1
        elif special[0] == b")" and depth:
            depth -= 1
            position = special.end()
    return b" ".join(kept) + (b"" if depth else b" " + body[position:])


def _folded(words: Sequence[str]) -> str:
    """On lines of no more than 76 octets where that can be; a line ends at a space between words."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\r\n  ".join(lines)


def _value(text: str) -> str:
    """A pvalue or an authserv-id, RFC 8601 §2.2: a token, an address, or a quoted string."""
    local, at, domain = text.rpartition("@")
    if _TOKEN.fullmatch(text) or (at and _DOT_ATOM.fullmatch(local or "x") and _DOT_ATOM.fullmatch(domain)):
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    plain = _NOT_PRINTABLE.sub("?", text[:_COMMENT_LIMIT]).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def _comment(text: str) -> str:
    return _UNSAFE.sub("?", text[:_COMMENT_LIMIT]).strip()

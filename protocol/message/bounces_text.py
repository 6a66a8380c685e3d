"""Bounces in no standard form: which addresses a text for people says could not be reached, and what it says about each.

Forms differ by server; what they have in common is read: the address stands at the beginning of a line, or behind words like
"RCPT TO" and "undeliverable to", in front of where the original message begins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

TEXT_LIMIT = 64 * 1024  # characters, ours: no server says more than this before it quotes the message

_LOCAL = r"[^\s<>()\[\]\\,;:\"@]"
_ADDRESS = (
    rf"(?<!{_LOCAL})({_LOCAL}{{1,64}}@(?:[A-Za-z0-9_-]{{1,63}}\.){{1,10}}[A-Za-z][A-Za-z0-9-]{{1,62}})(?![A-Za-z0-9@])"
)
_ANY_ADDRESS = re.compile(_ADDRESS)
_PREFIX = re.compile(r"^(?:.*[:=])?(?:smtp|rfc822|mailto)[=:]|^['`*=|/]+", re.IGNORECASE)

_CUTS = 10  # marks tried
# Where the original begins: what stands behind it was written by the sender, not by the server.
_CUT = re.compile(
    r"^[>\s]{0,8}(?:"
    r"-{2,}+[^\n]{0,80}(?:original|unsent|returned|undelivered|copy|header|below|message text|rejected message|letter|this line|"
    r"attach)"
    r"|-{2,}+\s?original message"
    r"|(?:the )?(?:original|returned|unsent|rejected|undelivered|old)[ -](?:message|mail|letter|text)(?: headers?)?\b[^\n]{0,30}"
    r"(?:follows?\b|below|:[ \t]*$|as follows|details:?)"
    r"|(?:message|mail|original) headers?[^\n]{0,20}(?:follow|:[ \t]*$)"
    r"|(?:received|return-path|dkim-signature|x-originating-ip|mime-version)[ \t]?:"
    r"|\*{3,}[^\n]{0,20}(?:original|message)"
    r"|(?:here is|this is) (?:a |the )?copy"
    r"|content-type:\s{0,4}message/rfc822"
    r"|begin(?:ning of)? (?:original|returned) message"
    r")",
    re.IGNORECASE | re.MULTILINE,
)
_SENDERS = re.compile(
    r"mailer[-_ ]?daemon|post[-_ ]?master|mail ?delivery|delivery (?:sub)?system|mail (?:system|service|admin)|mail_?service|"
    r"delivery (?:agent|service|failure|status)|system administrator|mmsc|deliver|bounce|mdaemon|@sns\.amazonaws|ndr\b|mail robot",
    re.IGNORECASE,
)
_SUBJECTS = re.compile(
    r"undeliver|un-deliver|deliver[a-z]*\b.{0,40}(?:fail|problem|error|delay|report|status|notification|not\b)|returned?[ -]?(?:"
    r"e?mail|message|to sender)|failure notice|(?:fail|non)[a-z-]*[ -]?deliver|(?:mail|message|smtp)\b.{0,30}(?:fail|error|reject|"
    r"problem|not (?:be )?(?:sent|deliver)|bounce|could not)|failed mail|could(?: not|n'?t) be (?:sent|deliver)|"
    r"mail system error|nondeliverable|unzustellbar|nicht zu(?:stellbar|gestellt)|zustellung|non remis|remise|"
    r"unknown user|user unknown|автоматич|не доставлен|недоставк|доставлен|failure delivery|automatically rejected|bounce",
    re.IGNORECASE,
)
_SENTENCES = re.compile(
    r"(?:could ?n[o']t|can ?not|was ?n[o']t|were not|not be|unable to|unable to be|failed to|wasn't able to|did not|has not) "
    r"(?:yet )?(?:be |been )?(?:yet )?(?:deliver|reach|send|sent|receive)|undeliverable|delivery (?:has |to )?[^.\n]{0,60}fail|"
    r"following (?:address|recipient|user|mail ?box)|fatal errors|transcript of session|delivery problems|"
    r"was automatically rejected|mailbox is full|returned to (?:you|sender)|error delivering|"
    r"rejected (?:by|the)|recipient_address|not accepting mail from",
    re.IGNORECASE,
)
_DELAYED = re.compile(
    r"warning only|will (?:continue|keep|be)(?: to)? (?:try|retr)|(?:do not|no) need to (?:resend|retransmit)|still being|"
    r"still trying|not yet been delivered|(?:has|have) not (?:yet )?received your|delayed (?:\d|mail|due)|is still in the queue|"
    r"retried until|temporarily (?:delayed|undeliver)|delivery[^.\n]{0,30}(?:has been|is) delayed",
    re.IGNORECASE,
)
_WARNING = re.compile(r"delay|warning", re.IGNORECASE)
_FINAL = re.compile(r"fail|return|unknown", re.IGNORECASE)
_AT_START = re.compile(rf"^[\s>*•\"'`(\[<|-]{{0,40}}(?:e?-?mail:|smtp:|to:?\s*<)?\s{{0,4}}{_ADDRESS}", re.IGNORECASE)
_BEHIND = re.compile(
    r"(?:rcpt to|recipients?|unknown user|unknown (?:local )?(?:part|mailbox)|undeliverable +to|user-?id|failed for|mail to|"
    r"message to|delivered to|deliver to|delivery to|sent to|send to|reach|mailbox is full|invalid[a-z ]{0,20}|no such user|"
    r"user|mailbox|emailaddress|address|addressed)[\s:=<>\[\](*\"'.-]{1,14}(?:smtp:|rfc822[:;] ?|mailto:)?" + _ADDRESS,
    re.IGNORECASE,
)
_META = re.compile(
    r"^[>\s]{0,8}(?:to|cc|bcc|from|subject|sent|date|sender|reply-to|message-id|received)[ \t]?:", re.IGNORECASE
)
_CONTACT = re.compile(
    r"(?:contact|reply to|help|support|assistance|write to|(?<!generated )from|by|e-?mail (?:us|me)|questions)\W{0,6}$",
    re.IGNORECASE,
)
_TO = re.compile(rf"^[>\s]{{0,8}}to[ \t]?:[^\n@]{{0,80}}{_ADDRESS}", re.IGNORECASE | re.MULTILINE)
_ROLES = re.compile(
    r"^(?:post-?master|mailer-daemon|abuse|support|help(?:desk)?|hostmaster|admin(?:istrator)?|noreply|no-reply)@", re.I
)


@dataclass(frozen=True, slots=True)
class Found:
    """An address that a text names as not reached."""

    address: str
    text: str  # what stands at it, up to the next one


def without_original(text: str) -> str:
    """What the server wrote, without the message that it quotes: cut at the first mark that has an address in front of it."""
    text = text[:TEXT_LIMIT].replace("\u2019", "'")
    first = None
    for found in islice(_CUT.finditer(text), _CUTS):
        if _ANY_ADDRESS.search(text, 0, found.start()):
            return text[: found.start()]
        if first is None and text[: found.start()].strip():
            first = found.start()
    return text if first is None else text[:first]


def is_delay(subject: str, text: str) -> bool:
    """Whether this is a warning, after which the server still tries."""
    return _DELAYED.search(text) is not None or (
        _WARNING.search(subject) is not None and _FINAL.search(subject) is None
    )


def is_bounce(fields: Mapping[str, str], text: str) -> bool:
    """Whether header and text look like a server's rather than a human's."""
    if fields.get("x-failed-recipients"):
        return True
    path, author = fields.get("return-path", ""), fields.get("from", "")
    is_daemon = "mailer-daemon" in author.lower() or "mailer-daemon" in path.lower()
    by_sender = 2 * is_daemon or path.strip() == "<>" or _SENDERS.search(author) is not None
    by_subject = _SUBJECTS.search(fields.get("subject", "")) is not None
    by_text = _SENTENCES.search(text) is not None
    return by_sender + by_subject + by_text >= 2


def find(fields: Mapping[str, str], text: str) -> list[Found]:
    """The addresses that could not be reached, in the order of the text. text is without_original()."""
    named = [match[1] for match in _ANY_ADDRESS.finditer(fields.get("x-failed-recipients", "")[:TEXT_LIMIT])]
    if named:
        return [Found(address, about(address, text)) for address in dict.fromkeys(map(_tidy, named))]
    strong: list[tuple[int, str]] = []
    weak: list[tuple[int, str]] = []
    ours = fields.get("to", "").lower()
    position = 0
    for line in text.splitlines(keepends=True):
        if not _META.match(line):
            _look_at(line, position, ours, strong, weak)
        position += len(line)
    found = _distinct(strong or weak)
    if not strong and len(found) > 3:
        return []  # a text that happens to hold addresses
    return [
        Found(address, text[_line(text, start) : _line(text, found[at + 1][0]) if at + 1 < len(found) else len(text)])
        for at, (start, address) in enumerate(found)
    ]


def original_recipient(text: str) -> str | None:
    """The one recipient that the original's To field has, in text that quotes it."""
    found = _TO.search(text, 0, TEXT_LIMIT)
    return None if found is None else _tidy(found[1])


def _look_at(line: str, position: int, ours: str, strong: list[tuple[int, str]], weak: list[tuple[int, str]]) -> None:
    if (start := _AT_START.match(line)) is not None and not _ROLES.match(start[1]):
        strong.append((position + start.start(1), _tidy(start[1])))
        return
    behind = [match for match in _BEHIND.finditer(line) if not _ROLES.match(match[1])]
    if behind:
        strong.extend((position + match.start(1), _tidy(match[1])) for match in behind)
        return
    for match in _ANY_ADDRESS.finditer(line):
        address = _tidy(match[1])
        if not (_ROLES.match(address) or address.lower() in ours or _CONTACT.search(line[: match.start()])):
            weak.append((position + match.start(), address))


def _line(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _distinct(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Each address once, where it stands first."""
    first: dict[str, tuple[int, str]] = {}
    for start, address in found:
        if ".." not in address and "@" in address.strip("@"):
            first.setdefault(address.lower(), (start, address))
    return sorted(first.values())


def _tidy(address: str) -> str:
    return _PREFIX.sub("", address).strip("'`.")


def about(address: str, text: str) -> str:
    """What stands at the address; the whole text when it does not name it."""
    start = text.lower().find(address.lower()) if address else -1
    return text[start:] if start >= 0 else text

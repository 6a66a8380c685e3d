"""What people read of their quarantine: a message that lists what was put there since the last one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daemons.outgoing import new_transaction_id
from filters.sieve.fields import field, text_part
from protocol.address import AddrSpec
from protocol.message import header, words
from protocol.message.dsn import Language, language_of
from protocol.smtp.received import render_date
from storage.quarantine import Kept

_LISTED_LIMIT = 100  # messages that one digest names; of the others it says how many there are
_TEXT_LIMIT = 120  # characters of a sender, a subject or a reason
_LINK = re.compile(r"(?i)\b(?:[a-z]+(?=://)|www(?=\.))[:.]")  # what mail programs make links of


@dataclass(frozen=True, slots=True)
class _Wording:
    """A digest in one language."""

    one: str
    several: str
    begin: str
    entry: str
    more: str
    end: str
    nothing: str
    date: str
    reasons: Sequence[tuple[str, str]] = ()  # how reasons of filters begin, and what is said instead


_WORDING: Mapping[Language, _Wording] = {
    "en": _Wording(
        "1 message in quarantine",
        "{count} messages in quarantine",
        "This mail to you was not delivered. It is kept in quarantine:\n",
        "No. {number}, {at:{date} %H:%M} UTC, kept until {until:{date}}\nFrom: {sender}\nSubject: {subject}\nReason: {reason}\n",
        "And {count} more.\n",
        "Do you want something of it? Write to {author} and name the number. Otherwise you need not do anything.\n",
        "(none)",
        "%Y-%m-%d",
    ),
    "de": _Wording(
        "1 Nachricht in Quarantäne",
        "{count} Nachrichten in Quarantäne",
        "Diese Post an Sie wurde nicht zugestellt. Sie liegt in Quarantäne:\n",
        "Nr. {number}, {at:{date} %H:%M} UTC, aufbewahrt bis {until:{date}}\nVon: {sender}\nBetreff: {subject}\nGrund: {reason}\n",
        "Und {count} weitere.\n",
        "Möchten Sie etwas davon haben? Schreiben Sie an {author} und nennen Sie die Nummer. Sonst ist nichts zu tun.\n",
        "(nichts)",
        "%d.%m.%Y",
        (("virus: ", "Virus: "), ("attachment: ", "Anhang: "), ("DMARC policy of ", "DMARC-Richtlinie von ")),
    ),
}


def digest(kept: Sequence[Kept], language: str, author: AddrSpec, owner: AddrSpec, now: datetime) -> bytes:
    """The message that lists what was kept."""
    spoken = language_of(language)
    said = _WORDING[spoken]
    texts = [said.begin, *(_entry(each, said) for each in kept[:_LISTED_LIMIT])]
    if len(kept) > _LISTED_LIMIT:
        texts.append(said.more.format(count=len(kept) - _LISTED_LIMIT))
    texts.append(said.end.format(author=author))
    head, body = text_part("\n".join(texts))
    return b"".join(
        (
            field("From", f"Postwerk <{author}>"),
            field("To", f"<{owner}>"),
            field("Subject", said.one if len(kept) == 1 else said.several.format(count=len(kept))),
            field("Date", render_date(now)),
            field("Message-ID", f"<{new_transaction_id()}.quarantine@{author.domain}>"),
            b"Auto-Submitted: auto-generated\r\n",  # RFC 3834 §5
            b"MIME-Version: 1.0\r\n",
            field("Content-Language", spoken),
            head,
            b"\r\n",
            body,
        )
    )


def _entry(kept: Kept, said: _Wording) -> str:
    sender = next((words.decode(body) for name, body, _ in header.read(kept.header_cache) if name == b"FROM"), "")
    reason = kept.reason
    for start, instead in said.reasons:
        if reason.startswith(start):
            reason = instead + reason.removeprefix(start)
    return said.entry.format(
        number=kept.quarantine_id,
        date=said.date,
        at=kept.received_at.astimezone(UTC),
        until=kept.expires_at.astimezone(UTC),
        sender=_shown(sender) or _shown(kept.reverse_path) or said.nothing,
        subject=_shown(kept.subject) or said.nothing,
        reason=_shown(reason),
    )


def _shown(text: str) -> str:
    """A stranger's words on one line of moderate length, without links to follow by mistake."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    line = _LINK.sub(lambda match: f"{match[0][:-1]}[{match[0][-1]}]", line)
    return line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…"

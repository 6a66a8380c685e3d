"""What the owner of a script reads when it makes a mistake."""

from datetime import datetime

from filters.sieve.fields import field, text_part
from protocol.address import AddrSpec
from protocol.sieve.errors import Fault
from protocol.smtp.received import render_date

_SUBJECT = {"en": "Your mail rules made a mistake", "de": "Ihre E-Mail-Regeln enthalten einen Fehler"}
_TEXT = {
    "en": """\
The Sieve script "{script}" made a mistake while it looked at a message:

    {fault}

Nothing is lost: messages with which that happens stay in your inbox as they came, and no other rule is applied to them.
You get this message once, and again only after the script was changed.
""",
    "de": """\
Das Sieve-Skript "{script}" ist bei einer Nachricht auf einen Fehler gelaufen:

    {fault}

Verloren ist nichts: Nachrichten, bei denen das geschieht, bleiben unverändert im Posteingang, und keine andere Regel wird auf
sie angewandt. Diese Nachricht bekommen Sie einmal, und wieder erst, wenn das Skript geändert wurde.
""",
}


def fault_notice(
    script: str, fault: Fault, *, author: AddrSpec, owner: AddrSpec, language: str, message_id: str, date: datetime
) -> bytes:
    """The message, in the language of the owner's tenant."""
    language = language if language in _TEXT else "en"
    head, body = text_part(_TEXT[language].format(script=script or "-", fault=fault))
    return b"".join(
        (
            field("From", f"Mail Delivery System <{author}>"),
            field("To", f"<{owner}>"),
            field("Subject", _SUBJECT[language]),
            field("Date", render_date(date)),
            field("Message-ID", message_id),
            b"Auto-Submitted: auto-generated\r\n",
            b"MIME-Version: 1.0\r\n",
            field("Content-Language", language),
            head,
            b"\r\n",
            body,
        )
    )

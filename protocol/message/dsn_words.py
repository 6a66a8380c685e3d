"""The words for people in a delivery status notification, English and German: what happened, and why, in one plain sentence.

A reason is chosen by subject and detail of the status (RFC 3463 §3): the remote server's own text stands below it, word by word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from protocol.status import Enhanced

Action = Literal["failed", "delayed", "relayed", "expanded", "delivered"]  # action-value, RFC 3464 §2.3.3
Language = Literal["en", "de"]


@dataclass(frozen=True, slots=True)
class Words:
    """The human part in one language."""

    greeting: str
    actions: Mapping[Action, tuple[str, str]]  # subject (ASCII) and sentence; the worst first
    said: str  # by the remote server
    noted: str  # by ourselves
    until: str
    closing: str
    date: str  # for strftime, without names of days and months


WORDS: Mapping[Language, Words] = {
    "en": Words(
        "This is the mail server {hostname}.",
        {
            "failed": ("Mail not delivered", "Your message could not be delivered to these recipients:"),
            "delayed": (
                "Mail delayed",
                "Your message could not be delivered to these recipients yet.\r\n"
                "The server keeps trying; you need not do anything:",
            ),
            "relayed": (
                "Mail passed on",
                "Your message was passed on, for these recipients, to servers that do not\r\nconfirm delivery:",
            ),
            "expanded": (
                "Mail passed on",
                "Your message was passed on to everybody that these addresses stand for;\r\nnothing confirms that they got it:",
            ),
            "delivered": ("Mail delivered", "Your message was delivered to these recipients:"),
        },
        said="The server {name} said:",
        noted="Noted by the server:",
        until="The server keeps trying until {time}.",
        closing="A report for mail programs follows, then your message or its header.",
        date="%Y-%m-%d %H:%M UTC",
    ),
    "de": Words(
        "Dies ist der Mailserver {hostname}.",
        {
            "failed": (
                "Nachricht nicht zustellbar",
                "Ihre Nachricht konnte diesen Empfängern nicht zugestellt werden:",
            ),
            "delayed": (
                "Zustellung noch nicht erfolgt",
                "Ihre Nachricht konnte diesen Empfängern noch nicht zugestellt werden.\r\n"
                "Der Server versucht es weiter; Sie müssen nichts tun:",
            ),
            "relayed": (
                "Nachricht weitergegeben",
                "Ihre Nachricht wurde für diese Empfänger an Server weitergegeben, die\r\nkeine Zustellung bestätigen:",
            ),
            "expanded": (
                "Nachricht weitergegeben",
                "Ihre Nachricht wurde an alle weitergegeben, für die diese Adressen stehen;\r\n"
                "die Zustellung an sie bestätigt niemand:",
            ),
            "delivered": ("Nachricht zugestellt", "Ihre Nachricht wurde diesen Empfängern zugestellt:"),
        },
        said="Antwort des Servers {name}:",
        noted="Vermerk des Servers:",
        until="Der Server versucht es weiter bis {time}.",
        closing="Es folgen ein Bericht für Mailprogramme und Ihre Nachricht oder deren Kopf.",
        date="%d.%m.%Y %H:%M UTC",
    ),
}

# Subject and detail -> English, German. Each sentence fits a failure as well as a delay.
_REASONS: Mapping[tuple[int, int], tuple[str, str]] = {
    (1, 1): ("There is no such mailbox at the destination.", "Diese Adresse gibt es dort nicht."),
    (1, 2): ("The domain of the address does not exist.", "Die Domain der Adresse gibt es nicht."),
    (1, 3): (
        "The address is not written as the destination requires.",
        "Die Adresse ist nicht so geschrieben, wie es der Zielserver verlangt.",
    ),
    (1, 4): ("The address stands for several mailboxes.", "Die Adresse ist dort nicht eindeutig."),
    (1, 6): ("The mailbox has moved.", "Das Postfach ist umgezogen."),
    (1, 7): ("Your address was not accepted as a sender.", "Ihre Adresse wurde als Absender nicht angenommen."),
    (1, 8): (
        "The domain of your address was not accepted as a sender.",
        "Die Domain Ihrer Adresse wurde als Absender nicht angenommen.",
    ),
    (1, 10): ("The domain of the address accepts no mail at all.", "Die Domain der Adresse nimmt keine E-Mail an."),
    (2, 1): ("The mailbox accepts no messages.", "Das Postfach nimmt keine Nachrichten an."),
    (2, 2): ("The mailbox is full.", "Das Postfach ist voll."),
    (2, 3): ("The message is too large for the mailbox.", "Die Nachricht ist zu groß für das Postfach."),
    (2, 4): ("The mailing list could not be expanded.", "Die Mailingliste konnte nicht aufgelöst werden."),
    (3, 1): ("The destination has no room left.", "Der Zielserver hat keinen Platz mehr."),
    (3, 2): ("The destination accepts no mail at present.", "Der Zielserver nimmt derzeit keine Nachrichten an."),
    (3, 3): (
        "The destination lacks something that the message needs.",
        "Dem Zielserver fehlt eine Fähigkeit, die die Nachricht braucht.",
    ),
    (3, 4): ("The message is too large for the destination.", "Die Nachricht ist zu groß für den Zielserver."),
    (3, 5): ("The destination is not set up properly.", "Der Zielserver ist nicht richtig eingerichtet."),
    (4, 1): ("The destination did not answer.", "Der Zielserver hat nicht geantwortet."),
    (4, 2): ("The connection to the destination broke.", "Die Verbindung zum Zielserver ist abgerissen."),
    (4, 3): (
        "The domain of the address could not be looked up.",
        "Die Domain der Adresse konnte nicht nachgeschlagen werden.",
    ),
    (4, 4): ("No server accepts mail for the domain.", "Für die Domain der Adresse ist kein Mailserver zu finden."),
    (4, 5): ("The destination is busy.", "Der Zielserver ist überlastet."),
    (4, 6): ("The message would have gone round in circles.", "Die Nachricht wäre im Kreis gelaufen."),
    (4, 7): (
        "The message could not be delivered within the time allowed.",
        "Die Nachricht konnte nicht innerhalb der vorgesehenen Zeit zugestellt werden.",
    ),
    (5, 3): ("The message had too many recipients for the destination.", "Zu viele Empfänger für den Zielserver."),
    (6, 0): ("The destination does not like the content.", "Der Zielserver lehnt den Inhalt ab."),
    (6, 1): (
        "The destination does not accept content of this kind.",
        "Der Zielserver nimmt Inhalte dieser Art nicht an.",
    ),
    (6, 3): (
        "The destination does not accept the message in this form.",
        "Der Zielserver nimmt die Nachricht in dieser Form nicht an.",
    ),
    (6, 7): (
        "The destination cannot handle addresses with non-English letters.",
        "Der Zielserver kann mit Umlauten und anderen Schriften in Adressen nicht umgehen.",
    ),
    (6, 9): (
        "The destination cannot handle a header with non-English letters.",
        "Der Zielserver kann mit Umlauten und anderen Schriften im Kopf der Nachricht nicht umgehen.",
    ),
    (7, 1): (
        "The rules of the destination do not allow the message.",
        "Die Regeln des Zielservers lassen die Nachricht nicht zu.",
    ),
    (7, 2): ("You may not write to this mailing list.", "Sie dürfen an diese Mailingliste nicht schreiben."),
    (7, 10): (
        "A secure connection to the destination was not possible.",
        "Eine sichere Verbindung zum Zielserver war nicht möglich.",
    ),
    (7, 13): ("The mailbox is disabled.", "Das Postfach ist gesperrt."),
    (7, 26): (
        "The destination could not verify that the message is from your domain.",
        "Der Zielserver konnte nicht prüfen, dass die Nachricht von Ihrer Domain kommt.",
    ),
    (7, 28): ("Too many messages came at once.", "Es kamen zu viele Nachrichten auf einmal."),
}
_SAME = {  # details that mean the same to people
    (1, 0): (1, 1), (2, 0): (2, 1), (3, 0): (3, 2), (4, 0): (4, 1), (7, 0): (7, 1), (7, 4): (7, 10), (7, 5): (7, 10),
    (7, 7): (7, 26), (7, 11): (7, 10), (7, 20): (7, 26), (7, 21): (7, 26), (7, 22): (7, 26), (7, 23): (7, 26),
    (7, 24): (7, 26), (7, 25): (7, 26), (7, 29): (7, 26), (7, 30): (7, 10),
}  # fmt: skip


def language_of(name: str) -> Language:
    """The language of that name, English for one that we do not speak."""
    return "de" if name == "de" else "en"


def reason(status: Enhanced, language: Language) -> str | None:
    """Why, in one plain sentence; None for a success and for a status that says nothing to people."""
    if status.status_class == 2:
        return None
    key = status.subject, status.detail
    sentences = _REASONS.get(_SAME.get(key, key))
    return None if sentences is None else sentences[language == "de"]


def spell_time(at: datetime, language: Language) -> str:
    """A point in time for people: in UTC, and saying so, since nobody knows where the reader is."""
    return at.astimezone(UTC).strftime(WORDS[language].date)

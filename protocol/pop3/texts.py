"""What POP3 replies say to people, in each language that LANG offers: RFC 6856 §3.

A client's program reads status indicators and response codes; these words are for its user. English is what a client gets
that asked for nothing, and stays within ASCII.
"""

from collections.abc import Mapping
from enum import Enum

DEFAULT = "en"
# Language tag -> its own name of itself, as RFC 6856 §3.2 lists them.
LANGUAGES: Mapping[str, str] = {"de": "Deutsch", "en": "English"}


class Text(Enum):
    """A sentence: (English, German). Braces are filled in by `phrase`."""

    READY = ("{hostname} POP3 ready", "{hostname} POP3 bereit")
    SEND_PASS = ("send PASS", "weiter mit PASS")
    MAILDROP = ("{count} messages ({octets} octets)", "{count} Nachrichten ({octets} Oktette)")
    SIZE = ("{octets} octets", "{octets} Oktette")
    DELETED = ("message {number} deleted", "Nachricht {number} gelöscht")
    BYE = ("bye", "auf Wiedersehen")
    BEGIN_TLS = ("begin TLS", "TLS beginnt")
    UTF8_MODE = ("UTF-8 from now on", "ab jetzt UTF-8")
    LANGUAGES = ("languages follow", "es folgen die Sprachen")
    LANGUAGE_CHANGED = ("replies are in English now", "Antworten kommen jetzt auf Deutsch")

    UNKNOWN_COMMAND = ("unknown command", "unbekannter Befehl")
    NOT_NOW = ("not allowed in this state", "in diesem Zustand nicht erlaubt")
    NO_ARGUMENT = ("no argument expected", "hier gehört kein Argument hin")
    EXPECTED_NAME = ("expected a name", "es fehlt ein Name")
    EXPECTED_PASSWORD = ("expected a password", "es fehlt ein Passwort")
    EXPECTED_MECHANISM = (
        "expected a mechanism and at most one initial response",
        "erwartet werden ein Verfahren und höchstens eine Anfangsantwort",
    )
    EXPECTED_NUMBERS = (
        "expected a message number and a number of lines",
        "erwartet werden eine Nachrichtennummer und eine Zeilenzahl",
    )
    EXPECTED_NUMBER = ("expected a number", "erwartet wird eine Zahl")
    EXPECTED_LANGUAGE = ("expected a language tag or *", "erwartet wird ein Sprachkürzel oder *")
    CONTROL_OCTETS = ("NUL and CR cannot be part of an argument", "NUL und CR können kein Teil eines Arguments sein")
    EXPECTED_UTF8 = ("expected UTF-8", "erwartet wird UTF-8")
    LINE_TOO_LONG = ("line too long", "Zeile zu lang")
    TOO_MANY_ERRORS = ("too many errors, closing", "zu viele Fehler, Verbindung endet")

    NEEDS_TLS = (
        "clear-text authentication needs TLS: send STLS first",
        "Anmeldung im Klartext nur mit TLS: erst STLS senden",
    )
    NO_TLS = ("TLS cannot be started", "TLS kann nicht begonnen werden")
    UNKNOWN_MECHANISM = ("unknown mechanism", "unbekanntes Verfahren")
    BAD_EXCHANGE = ("{reason}", "Antwort passt nicht zum Verfahren ({reason})")
    CANCELLED = ("authentication cancelled", "Anmeldung abgebrochen")
    LOGIN_FAILED = ("authentication failed", "Anmeldung fehlgeschlagen")
    LOGIN_DELAY = ("log in again in {seconds} s", "nächste Anmeldung erst in {seconds} s")
    IN_USE = ("another session has this maildrop", "eine andere Sitzung benutzt dieses Postfach")
    UNKNOWN_LANGUAGE = ("no such language here", "diese Sprache gibt es hier nicht")

    NO_MESSAGE = ("no such message", "diese Nachricht gibt es nicht")
    GONE = ("message was removed", "die Nachricht wurde entfernt")
    UNREADABLE = ("message cannot be read ({error_id})", "Nachricht nicht lesbar ({error_id})")
    TRY_LATER = ("try again later ({error_id})", "bitte später noch einmal ({error_id})")
    NOT_REMOVED = (
        "the deleted messages were not removed ({error_id})",
        "die gelöschten Nachrichten wurden nicht entfernt ({error_id})",
    )


_PLACES = {"en": 0, "de": 1}


def phrase(text: Text | str, language: str = DEFAULT, values: Mapping[str, object] | None = None) -> str:
    """The sentence in that language, filled in. A str is said as it is: it has no words to translate."""
    if isinstance(text, str):
        return text
    template: str = text.value[_PLACES[language]]
    return template.format_map(values) if values else template


def matching(wanted: str) -> str | None:
    """The offered language that a tag asks for (RFC 4647 §3.4: lookup), or None. Subtags fall off from the right."""
    tag = wanted.lower().replace("_", "-")
    while tag:
        if tag in LANGUAGES:
            return tag
        tag = tag.rpartition("-")[0]
    return None

"""Rules about header fields: what is missing, doubled, forged or shouted."""

import re
from datetime import timedelta

from filters.spam.rules import Pattern, Question, Rule
from filters.spam.sight import Sight, site

_MESSAGE_ID = re.compile(rb"[ \t]*<[^<>@\s]+@[^<>@\s]+>[ \t]*(?:\([^)]*\)[ \t]*)?")
_REPLY = re.compile(r"(?:re|aw|antw|sv)(?:\[\d+\])?:", re.IGNORECASE)
_TRAILING_NUMBER = re.compile(r" {4,}\S{2,}$|\s[\[(#{][a-z0-9]{5,}[\])}]?$|\s\d{3,}[a-z]+\d*$")
_SPACED = re.compile(r"\b(?:[A-Za-z][ ._*-]){4,}[A-Za-z]\b")
_DIGITS = re.compile(r"\d{4,}$|\d.*\d.*\d.*\d")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{6,}", re.IGNORECASE)
_NAMED_ADDRESS = re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)")
_NUMERIC_HOST = re.compile(r"\d+[-.]\d+[-.]\d+|^[0-9.\[\]]+$")
_ZONE = re.compile(rb"(?:[+-]\d{4}|[A-Z]{1,5})[ \t]*(?:\([^)]*\))?[ \t]*$")
_SINGLE = ("FROM", "SENDER", "REPLY-TO", "TO", "CC", "DATE", "SUBJECT", "MESSAGE-ID", "IN-REPLY-TO", "REFERENCES")
_FREE_MAIL = frozenset(
    [
        "gmail.com",
        "googlemail.com",
        "yahoo.com",
        "yahoo.co.uk",
        "yahoo.de",
        "hotmail.com",
        "outlook.com",
        "live.com",
        "aol.com",
        "gmx.de",
        "gmx.net",
        "gmx.com",
        "web.de",
        "t-online.de",
        "freenet.de",
        "mail.ru",
        "bk.ru",
        "yandex.ru",
        "yandex.com",
        "proton.me",
        "protonmail.com",
        "icloud.com",
        "msn.com",
        "excite.com",
        "lycos.com",
        "email.com",
        "mail.com",
        "netscape.net",
        "usa.net",
        "163.com",
        "126.com",
        "qq.com",
        "hotmail.de",
        "outlook.de",
        "zoho.com",
    ]
)
# Where these write from, beside their own site.
_FREE_MAIL_HOSTS = {
    "gmail.com": "google.com",
    "googlemail.com": "google.com",
    "gmx.de": "gmx.net",
    "gmx.com": "gmx.net",
    "hotmail.com": "outlook.com",
    "hotmail.de": "outlook.com",
    "live.com": "outlook.com",
    "outlook.de": "outlook.com",
    "msn.com": "hotmail.com",
    "bk.ru": "mail.ru",
    "yandex.com": "yandex.net",
    "yandex.ru": "yandex.net",
    "icloud.com": "me.com",
    "proton.me": "protonmail.ch",
    "protonmail.com": "protonmail.ch",
    "email.com": "mail.com",
}
_MANY_RECIPIENTS = 6
_MUCH_LATER, _MUCH_EARLIER = timedelta(days=2), timedelta(days=10)


def _date_in_future(sight: Sight) -> bool:
    date, now = sight.date, sight.circumstances.received_at
    return date is not None and now is not None and date - now > _MUCH_LATER


def _date_long_past(sight: Sight) -> bool:
    date, now = sight.date, sight.circumstances.received_at
    return date is not None and now is not None and now - date > _MUCH_EARLIER


def _names_other_address(sight: Sight) -> bool:
    """The display name, which is all that many clients show, is an address of another domain."""
    name, _, domain = sight.sender
    match = _NAMED_ADDRESS.search(name)
    return match is not None and bool(domain) and match[1].lower() != domain


def _reply_elsewhere(sight: Sight) -> bool:
    """To a free mailbox that is not the sender's: whoever answers writes to somebody else."""
    domain = sight.sender[2]
    replies = sight.addresses("REPLY-TO")
    return bool(replies) and bool(domain) and all(to != domain and to in _FREE_MAIL for _, to in replies)


def _to_sender(sight: Sight) -> bool:
    _, local, domain = sight.sender
    to = sight.addresses("TO", "CC")
    return bool(local) and len(to) == 1 and (to[0][0].lower(), to[0][1]) == (local.lower(), domain)


def _similar_recipients(sight: Sight) -> bool:
    """Guessed or listed in the order of the alphabet."""
    locals_ = [local.lower() for local, _ in sight.addresses("TO", "CC")]
    return len(locals_) >= 5 and (
        len({local[:3] for local in locals_}) <= len(locals_) / 4
        or (len(set(locals_)) > 5 and locals_ == sorted(locals_))
    )


def _shouts(sight: Sight) -> bool:
    letters = [each for each in sight.subject if each.isalpha()]
    return len(letters) >= 10 and " " in sight.subject and sum(each.isupper() for each in letters) > 0.8 * len(letters)


def _forged_reply(sight: Sight) -> bool:
    is_answer = (
        sight.has("REFERENCES") or sight.has("IN-REPLY-TO") or sight.has("X-MAILMAN-VERSION") or sight.has("LIST-ID")
    )
    return not is_answer and _REPLY.match(sight.subject) is not None


def _needless_encoding(sight: Sight) -> bool:
    raw = sight.raw("SUBJECT")
    return b"?b?" in raw.lower() and sight.subject.isascii() and len(sight.subject) > 3


def _eight_bit(sight: Sight) -> bool:
    return not (sight.raw("SUBJECT").isascii() and sight.raw("FROM").isascii()) and not _is_utf8(sight)


def _is_utf8(sight: Sight) -> bool:
    try:
        (sight.raw("SUBJECT") + sight.raw("FROM")).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _random_sender(sight: Sight) -> bool:
    return _CONSONANTS.search(sight.sender[1]) is not None


def _numbered_sender(sight: Sight) -> bool:
    return _DIGITS.search(sight.sender[1]) is not None


def _doubled(sight: Sight) -> bool:
    return any(sight.count(name) > 1 for name in _SINGLE)


def _urgent(sight: Sight) -> bool:
    priority = sight.raw("X-PRIORITY").strip()[:1]
    return priority in (b"1", b"2") or sight.raw("X-MSMAIL-PRIORITY").strip().lower() == b"high"


def _claims_outlook(sight: Sight) -> bool:
    """Outlook (Express) of that time always wrote X-MimeOLE, and its message ids have three parts with dollar signs."""
    mailer = sight.raw("X-MAILER")
    return mailer.startswith(b"Microsoft Outlook Express") and (
        not sight.has("X-MIMEOLE") or b"$" not in sight.raw("MESSAGE-ID")
    )


def _foreign_id(sight: Sight) -> bool:
    """Its Message-ID was made by a receiving site: the sender's program gave none."""
    raw = sight.raw("MESSAGE-ID").strip(b" <>")
    host = raw.rpartition(b"@")[2].decode("latin-1").lower()
    is_recipients = any(domain == host for _, domain in sight.addresses("TO", "CC"))
    return bool(raw) and is_recipients and site(host) != site(sight.sender[2])


def _bulk_without_exit(sight: Sight) -> bool:
    is_bulk = sight.raw("PRECEDENCE").strip().lower() in (b"bulk", b"junk")
    return is_bulk and not any(
        sight.has(name) for name in ("LIST-UNSUBSCRIBE", "LIST-ID", "X-MAILMAN-VERSION", "LIST-POST", "SENDER")
    )


def _free_mail_elsewhere(sight: Sight) -> bool:
    """From a free mailbox, and it never was at its provider's. Where authentication passed, that has said who sent it."""
    domain, known = sight.sender[2], sight.circumstances
    if domain not in _FREE_MAIL or not sight.received or "pass" in (known.spf, known.dkim, known.dmarc):
        return False
    sites = {site(domain), _FREE_MAIL_HOSTS.get(domain, domain)}
    return sites.isdisjoint(sight.hop_sites) and site(known.helo.lower()) not in sites and not sight.has("LIST-ID")


def _links_home(sight: Sight) -> bool:
    own = site(sight.sender[2])
    return own in sight.hop_sites and any(site(host) == own for host in sight.hosts)


def _first_helo(sight: Sight) -> str:
    return sight.circumstances.helo


RULES: tuple[Rule, ...] = (
    Question("no_date", 1.2, "it has no date", "sie hat kein Datum", lambda s: not s.has("DATE")),
    Question(
        "bad_date",
        1.2,
        "its date cannot be read",
        "ihr Datum ist unlesbar",
        lambda s: s.has("DATE") and s.date is None,
    ),
    Question(
        "date_in_future",
        2.0,
        "its date lies in the future",
        "ihr Datum liegt in der Zukunft",
        _date_in_future,
        about="connection",
    ),
    Question(
        "date_long_past",
        0.8,
        "its date lies long in the past",
        "ihr Datum liegt weit zurück",
        _date_long_past,
        about="connection",
    ),
    Question(
        "no_message_id",
        1.0,
        "it has no Message-ID",
        "sie hat keine Message-ID",
        lambda s: not s.raw("MESSAGE-ID").strip(),
    ),
    Question(
        "bad_message_id",
        0.9,
        "its Message-ID is malformed",
        "ihre Message-ID ist fehlerhaft",
        lambda s: bool(s.raw("MESSAGE-ID").strip()) and _MESSAGE_ID.fullmatch(s.raw("MESSAGE-ID")) is None,
    ),
    Question(
        "foreign_message_id",
        0.7,
        "its Message-ID was made at the recipient's site",
        "ihre Message-ID entstand erst beim Empfänger",
        _foreign_id,
    ),
    Question("no_from", 2.0, "it names no sender", "sie nennt keinen Absender", lambda s: not s.field("FROM")),
    Question(
        "from_without_address",
        1.5,
        "its sender is no address",
        "ihr Absender ist keine Adresse",
        lambda s: bool(s.field("FROM")) and not s.sender[2],
    ),
    Question(
        "from_other_address",
        2.5,
        "the sender's name is somebody else's address",
        "als Name des Absenders steht eine fremde Adresse",
        _names_other_address,
    ),
    Question(
        "from_odd_domain",
        1.0,
        "the sender's domain cannot exist",
        "die Domain des Absenders kann es nicht geben",
        lambda s: bool(s.sender[2]) and "." not in s.sender[2],
    ),
    Question(
        "from_numbered",
        0.1,
        "the sender's address holds many digits",
        "die Adresse des Absenders enthält viele Ziffern",
        _numbered_sender,
    ),
    Question(
        "from_random",
        0.6,
        "the sender's address looks random",
        "die Adresse des Absenders sieht zufällig aus",
        _random_sender,
    ),
    Question(
        "reply_elsewhere",
        1.6,
        "answers go to a free mailbox of somebody else",
        "Antworten gehen an ein fremdes Freemail-Postfach",
        _reply_elsewhere,
    ),
    Question(
        "no_to",
        0.6,
        "it names no recipient",
        "sie nennt keinen Empfänger",
        lambda s: not s.has("TO") and not s.has("CC"),
    ),
    Question(
        "to_hidden",
        0.9,
        "its recipients are hidden",
        "ihre Empfänger sind verborgen",
        lambda s: s.has("TO") and not s.addresses("TO", "CC"),
    ),
    Question(
        "to_sender", 1.1, "it is addressed to its own sender", "sie ist an ihren eigenen Absender gerichtet", _to_sender
    ),
    Question(
        "similar_recipients",
        1.3,
        "its recipients were taken from a list in alphabetical order",
        "ihre Empfänger stammen aus einer alphabetischen Liste",
        _similar_recipients,
    ),
    Question("no_subject", 0.7, "it has no subject", "sie hat keinen Betreff", lambda s: not s.subject),
    Question(
        "subject_shouts", 1.4, "its subject is all in capitals", "ihr Betreff steht ganz in Großbuchstaben", _shouts
    ),
    Question(
        "subject_exclaims",
        1.2,
        "its subject ends in an exclamation mark",
        "ihr Betreff endet mit einem Ausrufezeichen",
        lambda s: s.subject.rstrip().endswith("!"),
    ),
    Question(
        "subject_tagged",
        1.4,
        "its subject ends in a random mark",
        "ihr Betreff endet mit einem zufälligen Kennzeichen",
        lambda s: _TRAILING_NUMBER.search(s.subject) is not None,
    ),
    Question(
        "subject_spaced",
        1.5,
        "letters of its subject are s p a c e d",
        "Buchstaben im Betreff sind g e s p e r r t",
        lambda s: _SPACED.search(s.subject) is not None,
    ),
    Question(
        "subject_needlessly_encoded",
        1.2,
        "its subject is encoded without need",
        "ihr Betreff ist ohne Not verschlüsselt dargestellt",
        _needless_encoding,
    ),
    Question(
        "forged_reply",
        0.9,
        "it claims to be an answer and is none",
        "sie gibt vor, eine Antwort zu sein",
        _forged_reply,
    ),
    Question(
        "undeclared_8bit",
        1.4,
        "its header has characters of an unknown script",
        "ihr Kopf enthält Zeichen einer unbekannten Schrift",
        _eight_bit,
    ),
    Question(
        "doubled_field",
        1.0,
        "a header field occurs twice that may occur once",
        "ein Kopffeld kommt doppelt vor, das nur einmal vorkommen darf",
        _doubled,
    ),
    Question(
        "free_mail_elsewhere",
        1.6,
        "it is from a free mailbox and was not sent there",
        "sie nennt ein Freemail-Postfach und wurde nicht dort versandt",
        _free_mail_elsewhere,
    ),
    Question(
        "many_recipients",
        0.7,
        "it names many recipients",
        "sie nennt viele Empfänger",
        lambda s: len(s.addresses("TO", "CC")) >= _MANY_RECIPIENTS,
    ),
    Question(
        "date_without_zone",
        1.1,
        "its date has no time zone",
        "ihrem Datum fehlt die Zeitzone",
        lambda s: s.has("DATE") and _ZONE.search(s.raw("DATE")) is None,
    ),
    Question(
        "links_home",
        -1.2,
        "it was sent and leads to where its sender is",
        "sie kommt vom Ort des Absenders und führt dorthin",
        _links_home,
    ),
    Question(
        "mail_program",
        -0.7,
        "it names the program that wrote it",
        "sie nennt das Programm, das sie schrieb",
        lambda s: s.has("USER-AGENT"),
    ),
    Question("marked_urgent", 0.6, "it is marked as urgent", "sie ist als dringend gekennzeichnet", _urgent),
    Question(
        "forged_outlook",
        1.9,
        "it claims to come from Outlook Express and does not",
        "sie gibt vor, von Outlook Express zu stammen",
        _claims_outlook,
    ),
    Question(
        "bulk_without_exit",
        0.6,
        "it is bulk mail without a way to unsubscribe",
        "sie ist Massenpost ohne Abmeldemöglichkeit",
        _bulk_without_exit,
    ),
    Question(
        "helo_numeric",
        0.8,
        "the sending host has a number for a name",
        "der sendende Rechner hat eine Nummer als Namen",
        lambda s: _NUMERIC_HOST.search(_first_helo(s)) is not None,
        about="connection",
    ),
    Question(
        "helo_unqualified",
        0.6,
        "the sending host has no full name",
        "der sendende Rechner nennt keinen vollen Namen",
        lambda s: bool(_first_helo(s)) and "." not in _first_helo(s) and ":" not in _first_helo(s),
        about="connection",
    ),
    Question(
        "answer_in_thread",
        -0.9,
        "it answers an earlier message",
        "sie antwortet auf eine frühere Nachricht",
        lambda s: s.has("IN-REPLY-TO") and s.has("REFERENCES"),
    ),
    Question(
        "list_mail",
        -0.9,
        "it comes from a mailing list",
        "sie kommt über eine Mailingliste",
        lambda s: s.has("LIST-ID") and s.has("LIST-POST"),
    ),
    Pattern(
        "bulk_program",
        1.5,
        "it was written by a program for mass mail",
        "sie stammt aus einem Programm für Massenpost",
        "program",
        r"(?m)^(?:.*(?:bulk|mass ?mail|group ?mail|direct ?email|emailer|"
        r"mailking|stormpost|dynamic mail|jixing|advanced mass|the bat! .*_unreg|diffondi|postman|mach10)|[a-z0-9]{10,}\.[a-z]$)",
    ),
    Pattern(
        "says_advertisement",
        3.2,
        "it calls itself an advertisement",
        "sie nennt sich selbst Werbung",
        "subject",
        r"^\W{0,2}adv(?:ert\w*)?(?:[:\]_-]|\s*$)|^\W?(?:werbung|anzeige)\W",
    ),
)

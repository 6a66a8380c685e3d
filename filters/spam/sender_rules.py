"""Rules about who sent a message: what authentication found, whether the recipient has an address for this sender alone, and
what he did with its earlier mail.
"""

import re

from filters.spam.rules import Question, Rule
from filters.spam.sight import Sight, Standing

_UNKNOWN = Standing()
_BOUNCE_SENDERS = ("mailer-daemon", "postmaster", "")
_WORD = re.compile(r"[a-z0-9]{4,}")  # shorter ones are in many names
_STEM = 6  # letters: geocache and geocaching are one
# Behind the + these say what is wanted, and nothing of who may send it.
_ANYBODYS = re.compile(
    r"accounts?|contact|info|inbox|kauf|konto|lists?|mails?|mailbox|news|newsletters?|offers?|online|post|privat|private|"
    r"rechnung|sales?|service|shop|shopping|spam|store|support|test|work"
)


def _standing(sight: Sight) -> Standing:
    """Of a sender who may be another one than it says, nothing is known: everybody can write any From."""
    known = sight.circumstances
    if known.standing is None or known.dmarc == "fail" or "pass" not in (known.dmarc, known.dkim, known.spf):
        return _UNKNOWN
    return known.standing


def _given(sight: Sight) -> bool:
    """Whether each recipient's address, as in bert+ryanair@, names this sender, and nothing says that it is another one.

    Who writes there was given that address, or has it from whom it was given to: then it is another sender.
    """
    known = sight.circumstances
    if not known.details or known.dmarc == "fail" or known.spf in ("fail", "softfail"):
        return False
    labels = sight.sender[2].split(".")[:-1]
    return all(any(_names(word, labels) for word in _WORD.findall(detail)) for detail in known.details)


def _names(word: str, labels: list[str]) -> bool:
    stem = word[:_STEM]
    return _ANYBODYS.fullmatch(word) is None and any(word in label or label.startswith(stem) for label in labels)


def _null_but_no_bounce(sight: Sight) -> bool:
    """RFC 5321 §4.5.5: the null reverse-path is for notifications."""
    if sight.circumstances.reverse_path != "":
        return False
    is_report = (sight.root.type.lower(), sight.root.subtype.lower()) == (b"multipart", b"report")
    return not is_report and not sight.has("AUTO-SUBMITTED") and sight.sender[1].lower() not in _BOUNCE_SENDERS


def _junked(sight: Sight) -> bool:
    """Also of a sender that nobody authenticated: who forges it sends no better mail."""
    standing = sight.circumstances.standing
    return standing is not None and standing.junked > standing.kept and not standing.answered


_COMMON_RULES: tuple[Rule, ...] = (
    Question(
        "address_given",
        -8.0,
        "it came to an address that was given to this sender",
        "sie kam an eine Adresse, die dieser Absender bekommen hat",
        _given,
        about="connection",
    ),
    Question(
        "dmarc_fail",
        2.5,
        "the sender's domain disowns it (DMARC)",
        "die Domain des Absenders erkennt sie nicht an (DMARC)",
        lambda s: s.circumstances.dmarc == "fail",
        about="connection",
    ),
    Question(
        "dmarc_pass",
        -0.5,
        "the sender's domain vouches for it (DMARC)",
        "die Domain des Absenders steht für sie ein (DMARC)",
        lambda s: s.circumstances.dmarc == "pass",
        about="connection",
    ),
    Question(
        "spf_fail",
        2.0,
        "the sending host may not send for this domain (SPF)",
        "der sendende Rechner darf nicht für diese Domain senden (SPF)",
        lambda s: s.circumstances.spf == "fail",
        about="connection",
    ),
    Question(
        "spf_softfail",
        0.8,
        "the sending host should not send for this domain (SPF)",
        "der sendende Rechner sollte nicht für diese Domain senden (SPF)",
        lambda s: s.circumstances.spf == "softfail",
        about="connection",
    ),
    Question(
        "dkim_fail",
        0.5,
        "its signature is wrong (DKIM)",
        "ihre Signatur ist falsch (DKIM)",
        lambda s: s.circumstances.dkim == "fail",
        about="connection",
    ),
    Question(
        "dkim_pass",
        -0.2,
        "its signature is right (DKIM)",
        "ihre Signatur stimmt (DKIM)",
        lambda s: s.circumstances.dkim == "pass",
        about="connection",
    ),
    Question(
        "unauthenticated",
        0.6,
        "nothing proves who sent it",
        "nichts belegt, wer sie gesandt hat",
        lambda s: s.circumstances.spf in ("none", "neutral") and s.circumstances.dkim == "none",
        about="connection",
    ),
    Question(
        "no_pointer",
        1.0,
        "the sending host has no name in the DNS",
        "der sendende Rechner hat keinen Namen im DNS",
        lambda s: s.circumstances.has_pointer is False,
        about="connection",
    ),
    Question(
        "null_sender",
        1.2,
        "it comes from nobody and is no notification",
        "sie kommt von niemandem und ist keine Benachrichtigung",
        _null_but_no_bounce,
        about="connection",
    ),
)
# What these say differs from account to account.
STANDING_RULES: tuple[Question, ...] = (
    Question(
        "sender_answered",
        -4.0,
        "you have written to this sender",
        "Sie haben diesem Absender geschrieben",
        lambda s: _standing(s).answered > 0,
        about="connection",
    ),
    Question(
        "sender_kept",
        -1.5,
        "you have kept mail of this sender",
        "Sie haben Nachrichten dieses Absenders behalten",
        lambda s: _standing(s).kept > 2 * _standing(s).junked,
        about="connection",
    ),
    Question(
        "sender_junked",
        2.5,
        "you have thrown mail of this sender into Junk",
        "Sie haben Nachrichten dieses Absenders als Junk aussortiert",
        _junked,
        about="connection",
    ),
)
RULES: tuple[Rule, ...] = (*_COMMON_RULES, *STANDING_RULES)

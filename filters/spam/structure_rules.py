"""Rules about how a message is built: its parts, attachments, markup, and the shape of its text."""

import re

from filters.spam.rules import Pattern, Question, Rule
from filters.spam.sight import Sight
from protocol.message import words
from protocol.message.content import parameter

_PROGRAM = re.compile(r"\.(?:exe|scr|pif|com|bat|cmd|cpl|vbs?|jse?|wsf|hta|lnk|msi|ps1|jar|iso|img|vhdx?|one)$")
_DISGUISED = re.compile(
    r"\.(?:pdf|docx?|xlsx?|pptx?|txt|jpe?g|png|gif|zip|html?)[ ._]*\.(?!p7[ms]$|asc$|gz$|sig$)[a-z0-9]{2,5}$"
)
_MACRO = re.compile(r"\.(?:docm|dotm|xlsm|xltm|xlam|pptm|potm|ppam|sldm)$")
_PAGE = re.compile(r"\.(?:html?|xhtml|shtml|svg)$")
_ARCHIVE = re.compile(r"\.(?:zip|rar|7z|ace|arj|cab|gz|z|r\d\d)$")
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]{60,76}\r?\n")
_IMAGE = re.compile(r"<img\b", re.IGNORECASE)
# They begin with what is rare, so that they are found fast; what must stand in front of them is looked at afterwards.
_IN_WORD = re.compile(
    r"<(?:!(?:--[^>]{0,80}--|[^>]{0,80})|"
    r"/?(?!br|p|b|i|u|em|a|span|font|strong|sup|sub|wbr|img|tt|s|td|o:p)[a-z]{4,}[0-9]*/?)>[A-Za-z]"
)
_ENTITY = re.compile(r"&#x?[0-9a-fA-F]{2,6};")
_WORD = re.compile(r"[^\W\d_]{2,}")
_INVISIBLE = re.compile("[\u200b\u200c\u2060\u2061\u2062\u2063\u2064\u00ad\u180e]|(?<=[A-Za-z])[\u200d\ufeff]")
_INVISIBLE_ALONE = re.compile("[\u200b\u200c\u2060\u2061\u2062\u2063\u2064\u00ad\u180e\u200d\ufeff]")
_MIXABLE = re.compile("[\u0370-\u04ff]")
_MIXED = re.compile("[A-Za-z][\u0400-\u04ff\u0370-\u03ff]+[A-Za-z]|[\u0400-\u04ff][A-Za-z][\u0400-\u04ff]")
_RANDOM_WORD = re.compile(r"[bcdfghjklmnpqrstvwxz]{7,}")
_CONSONANTS = bytes([ord("x") if chr(each) in "bcdfghjklmnpqrstvwxz" else 32 for each in range(256)])
_MONEY = re.compile(r"[$€£] ?\d[\d,. ]{3,}")
_FOREIGN = re.compile("[\u0600-\u06ff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0400-\u04ff]")
_LETTERS_LOOKED_AT = 8_000
_STATED_ASIAN = (
    b"big5",
    b"gb2312",
    b"gb18030",
    b"gbk",
    b"euc-kr",
    b"ks_c_5601-1987",
    b"koi8-r",
    b"windows-1251",
    b"iso-2022-kr",
)


def _is(sight: Sight, kind: bytes, subtype: bytes) -> bool:
    return sight.root.type.lower() == kind and sight.root.subtype.lower() == subtype


def _html_alone(sight: Sight) -> bool:
    return bool(sight.html) and not sight.plain.strip()


def _named(sight: Sight, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(name) is not None for _, name in sight.attachments)


def _misnamed(sight: Sight) -> bool:
    """An attachment that says it is a picture or a sound, with the name of something else."""
    return any(
        part.type.lower() in (b"image", b"audio", b"video")
        and (_PROGRAM.search(name) or _PAGE.search(name) or _ARCHIVE.search(name))
        and not name.endswith(".svg")
        for part, name in sight.attachments
    )


def _no_end(sight: Sight) -> bool:
    """A multipart without its last delimiter line, RFC 2046 §5.1.1."""
    if not sight.root.is_multipart:
        return False
    boundary = parameter(sight.root.parameters, b"boundary")
    return not boundary or sight.octets.rfind(b"--" + boundary + b"--") < 0


def _no_parts(sight: Sight) -> bool:
    return sight.root.is_multipart and not sight.root.children


def _needless_base64(sight: Sight) -> bool:
    """Text that needs no encoding, hidden from those that cannot read base64."""
    return any(
        (part.encoding or b"").lower() == b"base64" and text.isascii() for part, text in sight.decoded if len(text) > 20
    )


def _unknown_charset(sight: Sight) -> bool:
    charsets = [parameter(part.parameters, b"charset") for part, _ in sight.decoded]
    return any(each is not None and words.codec(each.decode("latin-1")) is None for each in charsets)


def _foreign_charset(sight: Sight) -> bool:
    """It states a script and then does not use it."""
    for part, text in sight.decoded:
        charset = parameter(part.parameters, b"charset")
        if charset is not None and charset.lower() in _STATED_ASIAN and text.isascii() and len(text) > 100:
            return True
    return False


def _unstated_type(sight: Sight) -> bool:
    return sight.has("CONTENT-TYPE") and not sight.has("MIME-VERSION")


def _picture_for_text(sight: Sight) -> bool:
    shown = len(sight.shown_html.strip())
    has_picture = _IMAGE.search(sight.html) is not None or any(p.type.lower() == b"image" for p, _ in sight.attachments)
    return bool(sight.html) and has_picture and shown < 200 and len(sight.plain) < 400


def _link_alone(sight: Sight) -> bool:
    text = sight.text.strip()
    return 0 < len(text) < 200 and len(sight.links) == 1 and len(text) - len(sight.links[0].text) < 100


def _empty(sight: Sight) -> bool:
    return not sight.text.strip() and not sight.attachments


def _page_attached(sight: Sight) -> bool:
    return _named(sight, _PAGE)


def _much_markup(sight: Sight) -> bool:
    html = sight.html[: _LETTERS_LOOKED_AT * 4]
    return len(html) > 2000 and html.count("<") * 12 > max(1, sight.shown_html.count(" ")) * 20


def _cuts_words(sight: Sight) -> bool:
    html = sight.html
    return "<" in html and any(
        match.start() and html[match.start() - 1].isalpha() and html[match.start() - 1].isascii()
        for match in _IN_WORD.finditer(html)
    )


def _capitals(sight: Sight) -> bool:
    small, capital = sight.vowels
    return small + capital > 30 and capital > 0.35 * (small + capital)


def _exclaims(sight: Sight) -> bool:
    count = sight.text.count("!")
    return count >= 6 and count * 400 > len(sight.text)


def _random_words(sight: Sight) -> bool:
    octets = sight.text[-2000:].encode("utf-8", "replace").translate(_CONSONANTS)
    return octets.count(b"x" * 7) >= 3 and len(_RANDOM_WORD.findall(sight.text[-2000:])) >= 3


def _much_money(sight: Sight) -> bool:
    text = sight.text[: _LETTERS_LOOKED_AT * 2]
    return sum(map(text.count, "$€£")) >= 3 and len(_MONEY.findall(text)) >= 3


def _foreign_script(sight: Sight) -> bool:
    """Mostly in a script that is not Latin. No fault of itself: it only adds to others."""
    if not sight.uncommon or _FOREIGN.search(sight.uncommon) is None:
        return False
    text = sight.text[:2000]
    return len(_FOREIGN.findall(text)) > 0.3 * max(1, len(_WORD.findall(text)) * 2)


def _hidden_entities(sight: Sight) -> bool:
    return (
        "&#" in sight.html
        and len(_ENTITY.findall(sight.html)) > 20
        and len(_ENTITY.findall(sight.html)) * 10 > len(sight.shown_html)
    )


def _signed(sight: Sight) -> bool:
    return _is(sight, b"multipart", b"signed") or "-----BEGIN PGP SIGNATURE-----" in sight.plain


def _quotes(sight: Sight) -> bool:
    return sight.plain.count("\n>") >= 3


def _diff(sight: Sight) -> bool:
    return "\n--- " in sight.plain and "\n+++ " in sight.plain and "\n@@ " in sight.plain


RULES: tuple[Rule, ...] = (
    Question(
        "html_alone",
        0.7,
        "it has markup and no plain text",
        "sie besteht nur aus HTML ohne einfachen Text",
        _html_alone,
        about="html",
    ),
    Question(
        "program_attached",
        2.5,
        "a program is attached",
        "ein Programm ist angehängt",
        lambda s: _named(s, _PROGRAM),
        about="attachments",
    ),
    Question(
        "disguised_attachment",
        2.0,
        "the name of an attachment hides what it is",
        "der Name einer Anlage verbirgt ihre Art",
        lambda s: _named(s, _DISGUISED),
        about="attachments",
    ),
    Question(
        "macros_attached",
        1.2,
        "a document with macros is attached",
        "ein Dokument mit Makros ist angehängt",
        lambda s: _named(s, _MACRO),
        about="attachments",
    ),
    Question(
        "page_attached",
        1.0,
        "a web page is attached",
        "eine Webseite ist angehängt",
        _page_attached,
        about="attachments",
    ),
    Question(
        "misnamed_attachment",
        1.5,
        "an attachment is not what it is called",
        "eine Anlage ist nicht, was sie vorgibt",
        _misnamed,
        about="attachments",
    ),
    Question("multipart_without_end", 1.0, "its last part has no end", "ihr letzter Teil hat kein Ende", _no_end),
    Question(
        "multipart_without_parts",
        1.0,
        "it has no parts although it says so",
        "sie hat keine Teile, obwohl sie das angibt",
        _no_parts,
    ),
    Question(
        "needless_base64", 1.6, "its text is encoded without need", "ihr Text ist ohne Not kodiert", _needless_base64
    ),
    Question(
        "unknown_charset", 0.8, "its character set does not exist", "ihren Zeichensatz gibt es nicht", _unknown_charset
    ),
    Question(
        "false_charset",
        1.1,
        "it does not use the script that it states",
        "sie nutzt die angegebene Schrift gar nicht",
        _foreign_charset,
    ),
    Question(
        "no_mime_version",
        0.1,
        "it states a type without MIME-Version",
        "sie nennt einen Typ ohne MIME-Version",
        _unstated_type,
    ),
    Question(
        "picture_for_text",
        1.5,
        "it shows a picture instead of text",
        "sie zeigt ein Bild statt eines Textes",
        _picture_for_text,
        about="html",
    ),
    Question("link_alone", 0.8, "it is nothing but a link", "sie besteht nur aus einem Link", _link_alone),
    Question("empty", 1.0, "it is empty", "sie ist leer", _empty),
    Question(
        "much_markup",
        0.3,
        "it has far more markup than text",
        "sie hat weit mehr HTML als Text",
        _much_markup,
        about="html",
    ),
    Question(
        "comment_in_word",
        1.8,
        "markup cuts its words into pieces",
        "HTML zerschneidet ihre Wörter",
        _cuts_words,
        about="html",
    ),
    Question(
        "hidden_entities",
        1.5,
        "its text is hidden in character references",
        "ihr Text ist in Zeichencodes versteckt",
        _hidden_entities,
        about="html",
    ),
    Pattern(
        "invisible_text",
        0.4,
        "it holds text in the colour of its background",
        "sie enthält Text in der Farbe des Hintergrunds",
        "html",
        r"""<font[^>]+color\s*=\s*["']?(?:#?ffffff|#?fefefe|#?fffff[0-9a-f]|white)\b|color:\s*(?:#fff(?:fff)?|"""
        r"""white)\b[^"']{0,80}background(?:-color)?:\s*(?:#fff(?:fff)?|white)\b""",
    ),
    Question("capitals", 1.3, "much of it is in capitals", "vieles steht in Großbuchstaben", _capitals),
    Question("exclaims", 0.8, "it has many exclamation marks", "sie enthält viele Ausrufezeichen", _exclaims),
    Pattern(
        "spaced_words",
        0.8,
        "its words are s p a c e d",
        "ihre Wörter sind g e s p e r r t",
        "text",
        r"(?:^|[^\w.])(?:[a-z][ .*_-]){5,}[a-z](?:[^\w.]|$)",
    ),
    Question(
        "invisible_characters",
        1.2,
        "invisible characters stand in its words",
        "in ihren Wörtern stehen unsichtbare Zeichen",
        lambda s: _INVISIBLE_ALONE.search(s.uncommon) is not None and len(_INVISIBLE.findall(s.text)) >= 3,
    ),
    Question(
        "mixed_scripts",
        2.0,
        "letters of another script stand in its words",
        "in ihren Wörtern stehen Buchstaben fremder Schriften",
        lambda s: _MIXABLE.search(s.uncommon) is not None and _MIXED.search(f"{s.subject}\n{s.text}") is not None,
    ),
    Question("random_words", 1.0, "it ends in random letters", "sie endet mit zufälligen Buchstaben", _random_words),
    Question(
        "much_money",
        0.2,
        "it speaks of sums of money again and again",
        "sie spricht immer wieder von Geldbeträgen",
        _much_money,
    ),
    Question(
        "foreign_script",
        0.5,
        "it is written in another script",
        "sie ist in fremder Schrift geschrieben",
        _foreign_script,
    ),
    Question("signed", -0.7, "it is digitally signed", "sie ist digital signiert", _signed),
    Question("quotes", -1.0, "it quotes an earlier message", "sie zitiert eine frühere Nachricht", _quotes),
    Question("holds_patch", -1.5, "it holds a patch", "sie enthält einen Patch", _diff),
    Pattern("html_form", 0.2, "it holds a form to fill in", "sie enthält ein Formular", "html", r"<form\b"),
    Pattern(
        "html_password_form",
        2.0,
        "it asks for a password in a form",
        "sie fragt in einem Formular nach einem Passwort",
        "html",
        r"<input[^>]{1,200}type\s*=\s*[\"']?password",
    ),
    Pattern(
        "html_script",
        0.1,
        "it holds a program in its markup",
        "ihr HTML enthält ein Programm",
        "html",
        r"<script\b|javascript:",
    ),
    Pattern(
        "html_frame",
        0.3,
        "it loads another page",
        "sie lädt eine fremde Seite nach",
        "html",
        r"<(?:iframe|frame|object|embed)\b",
    ),
    Pattern(
        "html_tiny_font",
        0.6,
        "it holds text too small to read",
        "sie enthält unlesbar kleinen Text",
        "html",
        r"font-size:\s*[01](?:px|pt)|font-size:\s*0[;\"']|<font[^>]{0,80}size\s*=\s*[\"']?(?:-[5-9]|0)",
    ),
    Pattern(
        "html_huge_font",
        0.8,
        "it holds very large text",
        "sie enthält sehr großen Text",
        "html",
        r"<font[^>]{0,80}size\s*=\s*[\"']?(?:\+?[4-9]|1\d)|font-size:\s*(?:[3-9]\d)(?:px|pt)",
    ),
    Pattern(
        "html_hidden",
        0.5,
        "it holds text that is not shown",
        "sie enthält Text, der nicht angezeigt wird",
        "html",
        r"display:\s*none|visibility:\s*hidden",
    ),
    Pattern(
        "html_red",
        0.7,
        "it holds text in red",
        "sie enthält Text in Rot",
        "html",
        r"color\s*[=:]\s*[\"']?(?:#?ff0000|red)\b",
    ),
    Pattern(
        "html_tracker",
        0.1,
        "it reports when it is read",
        "sie meldet, wenn sie gelesen wird",
        "html",
        r"<img[^>]{0,400}(?:width\s*=\s*[\"']?[01]\b[^>]{0,200}height\s*=\s*[\"']?[01]\b|"
        r"height\s*=\s*[\"']?[01]\b[^>]{0,200}width\s*=\s*[\"']?[01]\b)",
    ),
    Pattern(
        "html_title_missing",
        0.4,
        "its page has an empty title",
        "ihre Seite hat einen leeren Titel",
        "html",
        r"<title>\s*(?:untitled[^<]*|new page[^<]*)?</title>",
    ),
)

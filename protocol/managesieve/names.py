"""Names of scripts, RFC 5804 §1.6."""

import re
import unicodedata

NAME_LIMIT = 128  # characters: what RFC 5804 §1.6 asks for at least
_PROHIBITED = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ScriptNameError(ValueError):
    """No name for a script. The text tells the rule, and repeats nothing of the name."""


def script_name(text: str) -> str:
    """The name as it is kept, in NFC: RFC 5198 §2 has one spelling for what looks alike. Raises ScriptNameError."""
    name = unicodedata.normalize("NFC", text)
    if not name:
        raise ScriptNameError("a script's name cannot be empty")
    if len(name) > NAME_LIMIT:
        raise ScriptNameError(f"a script's name has at most {NAME_LIMIT} characters")
    if _PROHIBITED.search(name):
        raise ScriptNameError("a script's name has no control characters and no line ends")
    return name

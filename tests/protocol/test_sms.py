"""Short messages: whom a URI names, and how many messages a text needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.sms import Sms, SmsError, fitted, parse_sms, parts_of


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sms:+491701234567", Sms(("+491701234567",))),
        ("SMS:+49-170-(123).45.67", Sms(("+491701234567",))),
        ("sms:%2B491701234567", Sms(("+491701234567",))),
        ("sms:+491701234567,+431234567?body=Hallo%20Welt", Sms(("+491701234567", "+431234567"), "Hallo Welt")),
        ("sms:+491701234567,+491701234567?foo=1&body=a&body=b", Sms(("+491701234567",), "a")),
        ("sms:+491701234567#fragment", Sms(("+491701234567",))),
    ],
)
def test_uris_are_read(uri: str, expected: Sms) -> None:
    """RFC 5724 §2.2: numbers without their separators, each once, and the text."""
    assert parse_sms(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "tel:+491701234567", "sms:", "sms:0170123", "sms:+", "sms:+49170x", "sms:+49", "sms:+1234567890123456",
        "sms:+491701234567?body", "sms:+4911111,+4911112,+4911113,+4911114,+4911115", "sms:+49170\n1234567",
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(uri: str) -> None:
    """Only global numbers, and only so many: a local one means another phone elsewhere."""
    with pytest.raises(SmsError):
        parse_sms(uri)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("ä" * 160, 1),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("x" * 152 + "€" * 76, 2),  # the first septet of a pair is not parted from its second
        ("x" * 153 + "€" * 76 + "x", 2),
        ("x" * 152 + "€" * 76 + "xx", 3),
        ("х" * 70, 1),  # Cyrillic
        ("х" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),  # 33 fit into 67 units: no pair is cut in two
    ],
)
def test_parts_are_counted(text: str, parts: int) -> None:
    """3GPP TS 23.038: 160 septets or 70 units alone, 153 or 67 in one of several."""
    assert parts_of(text) == parts


@given(st.text(max_size=600), st.integers(1, 4))
def test_a_text_is_cut_to_fit(text: str, parts: int) -> None:
    """What fits stays; what does not fits afterwards, begins alike and ends with dots."""
    cut = fitted(text, parts)
    assert parts_of(cut) <= parts
    if parts_of(text) <= parts:
        assert cut == text
    else:
        assert cut.endswith("...")
        assert text.startswith(cut.removesuffix("..."))

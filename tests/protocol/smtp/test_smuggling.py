"""SMTP smuggling: no form of an end of data that some other server takes for one ends a message here.

CVE-2023-51764 (Postfix), CVE-2023-51765 (Sendmail), CVE-2023-51766 (Exim), CVE-2024-27305 (aiosmtpd). Each case is one
message to us, and is refused for its bare CR or LF: what it hides is never executed.
"""

import pytest

from protocol.smtp.data import DataReader
from tests.feeding import cut

FORMS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\n.\r",
    b"\r\r\n.\n",
    b"\r\n.\r\r\n",
    b"\r\n.\0\r\n\n",
    b"\n\r.\r\n",
    b"\r\n\r.\r\n",
    b"\r\n.\x85\n",
]
SMUGGLED = b"MAIL FROM:<admin@victim.example>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nFrom: admin@victim.example\r\n\r\nsend money"


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_no_other_end_of_data(form: bytes, step: int | None) -> None:
    """The smuggled commands stay inside the one message, and the message is refusable."""
    data = DataReader()
    message = b"".join(
        data.receive(piece) for piece in cut(b"Subject: a\r\n\r\nb" + form + SMUGGLED + b"\r\n.\r\n", step)
    )
    assert data.is_complete
    assert data.rest == b""
    assert message.endswith(b"send money\r\n")
    assert SMUGGLED[:10] in message
    assert data.has_bare_line_end


def test_the_real_end_is_the_end() -> None:
    """CRLF "." CRLF does end it, even behind a bare CR: what follows is the next command, and the message is refusable."""
    data = DataReader()
    assert data.receive(b"a\r\r\n.\r\nMAIL FROM:<>\r\n") == b"a\r\r\n"
    assert (data.is_complete, data.has_bare_line_end, data.rest) == (True, True, b"MAIL FROM:<>\r\n")

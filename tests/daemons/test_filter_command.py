"""`postwerk filter`: what would become of a message, for people and for programs."""

import json
import os
from pathlib import Path

import pytest

from tests.daemons.test_cli import Ended, Postwerk, configuration, populated, postwerk

__all__ = ["configuration", "populated", "postwerk"]  # fixtures

MAIL = (
    b"From: Sender <sender@client.example>\r\nTo: alice@example.test\r\nSubject: hello\r\n"
    b"X-Spam-Flag: NO\r\n\r\nHello, Alice.\r\n"
)
WITH = (
    "--rcpt",
    "alice@example.test",
    "--from",
    "sender@client.example",
    "--peer",
    "127.0.0.9",
    "--helo",
    "client.example",
)


@pytest.fixture
def mail(tmp_path: Path) -> str:
    """A file."""
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    return str(file)


def test_for_people(populated: Postwerk, mail: str) -> None:
    """Who brings what to whom, each filter on its line, our reply, and what becomes of it for each recipient."""
    lines = populated("filter", "explain", mail, *WITH).splitlines()
    assert lines[0] == f"from <sender@client.example>, {len(MAIL)} B"
    assert lines[1] == "from host 127.0.0.9 (client.example)"
    assert any(line.startswith("content  forged          remove field X-Spam-Flag  [") for line in lines)
    assert "reply: 250, accepted" in lines
    assert lines[lines.index("alice@example.test") + 1 :][-1] == "  kept"


def test_for_programs(populated: Postwerk, mail: str) -> None:
    """The same as JSON."""
    told = json.loads(populated("filter", "explain", mail, *WITH, "--rcpt", "nobody@example.test", "--json"))
    assert told["message"]["forward_paths"] == ["alice@example.test", "nobody@example.test"]
    (forged,) = (check for check in told["checks"] if check["filter"] == "forged")
    assert forged["verdicts"] == [{"verdict": "remove", "recipient": None, "reason": "X-Spam-Flag"}]
    assert forged["milliseconds"] >= 0
    alice, nobody = told["recipients"]
    assert (alice["address"], alice["reply"], alice["delivery"]) == ("alice@example.test", None, ["kept"])
    assert nobody["reply"].startswith("550 5.1.1 ")
    assert told["reply"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--id", "0123456789abcdef"], os.EX_DATAERR, "no message 0123456789abcdef"),
        (["--id", "4711"], os.EX_USAGE, "4711 is no id: 16 hexadecimal digits"),
        ([], os.EX_USAGE, "give a file, or --id"),
        (["{mail}", "--peer", "nonsense"], os.EX_USAGE, "'nonsense' does not appear to be"),
        (["{mail}", "--rcpt", "a@"], os.EX_USAGE, "a@"),
        (["{mail}", "--from", "a b@x.example"], os.EX_USAGE, "a b@x.example"),
    ],
)
def test_what_cannot_be_explained(populated: Postwerk, mail: str, arguments: list[str], code: int, said: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(Ended, match=said) as ended:
        populated("filter", "explain", *(each.format(mail=mail) for each in arguments))
    assert ended.value.code == code


def test_filters_are_listed(populated: Postwerk) -> None:
    """With the package that each is from, and its place in the configuration."""
    rows = {row["filter"]: row for row in json.loads(populated("filter", "list", "--json"))}
    assert {"antivirus", "authentication", "lists", "mime", "spam"} <= rows.keys()
    assert {row["from"] for row in rows.values()} == {"postwerk"}

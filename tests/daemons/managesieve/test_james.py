"""The ManageSieve dialogues of Apache James, with their clients' lines as they are.

A dialogue begins in TLS, unless it asks for it. The files come from apache/james-project, mpt/, at commit
20bf8083e39be4a750f606e576a162087bb3f18a under Apache-2.0 (the text is in tests/corpora/LICENSES). What James words or orders in
its own way is compared by its status and response code. Three things are put right before they are sent: the login, which is no
message of PLAIN; scripts that use the envelope test and do not require it (RFC 5228 §5.4); and literals that take the line end
of their command with them (RFC 5804 §4).
"""

import re
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.daemons.managesieve.conftest import Client, Stage, plain

DIALOGUES = sorted((Path(__file__).parent / "james").glob("*.test"))
LOGIN = "user password"
INITIAL = '"AHVzZXIAcGFzc3dvcmQ="'
REQUIRED, ENVELOPE = 'require ["fileinto"];', 'require ["envelope","fileinto"];'
_LITERAL = re.compile(r"\{([0-9]+)\+\}")
_CODE = re.compile(r"(OK|NO|BYE)(?: \\?\(([A-Z/]+))?")


def steps(text: str) -> list[tuple[list[str], list[str]]]:
    """What the client says at once, and what James answers. A comment is passed over."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        side, _, words = line.partition(":")
        if side == "C":
            if not found or found[-1][1]:
                found.append(([], []))
            found[-1][0].append(words.removeprefix(" "))
        elif side == "S":
            found[-1][1].append(words.removeprefix(" "))
    return found


def outcome(lines: list[str]) -> tuple[str, str | None]:
    """Status and response code of an answer."""
    for line in reversed(lines):
        if matched := _CODE.match(line):
            return matched[1], matched[2]
    return "", None


async def said(client: Client, sent: list[str], person: Person) -> list[str]:
    message = plain(person.login, person.password).decode()
    octets = "".join(f"{line}\r\n" for line in sent).replace(LOGIN, message).replace(INITIAL, f'"{message}"')
    announced = _LITERAL.search(octets.partition("\r\n")[0])
    if announced and len(sent) > 1:
        size = int(announced[1])
        behind = octets.index("\r\n") + 2 + size
        octets = octets if octets[behind:] else f"{octets}\r\n"
        added = len(ENVELOPE) - len(REQUIRED) if REQUIRED in octets else 0
        octets = octets.replace(announced[0], f"{{{size + added}+}}", 1).replace(REQUIRED, ENVELOPE)
    client.writer.write(octets.encode())
    first = (await client.line()).decode()
    if first == '""':
        return [first]
    lines = [first]
    while not _CODE.match(lines[-1]):
        lines.append((await client.line()).decode())
    return lines


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
async def test_dialogue(path: Path, stage: Stage, account: Person) -> None:
    """Every step ends with the status and the response code that James gives."""
    begins = stage.stranger if path.stem == "starttls" else stage.client
    async with begins() as client:
        for sent, expected in steps(path.read_text("utf-8")):
            answer = await said(client, sent, account)
            if not expected:
                assert sent == ["LOGOUT"]
                assert await client.at_end()
                continue
            if expected == ['""']:
                assert answer == ['""']
                continue
            status, code = outcome(expected)
            ours, our_code = outcome(answer)
            assert ours == status, (sent, answer, expected)
            assert code in (None, our_code), (sent, answer, expected)
            if sent == ["STARTTLS"] and ours == "OK":
                await client.writer.start_tls(stage.tls, server_hostname="127.0.0.1")
                assert (await client.answer())[-1] == b"OK"

"""imaptest's scripted tests against our IMAP service (tests/conformance/scripts/imaptest, MIT)."""

import contextlib
from pathlib import Path

import pytest

from tests.conftest import PASSWORD
from tests.daemons.imap.conformance.imaptest import read
from tests.daemons.imap.conformance.player import Mismatch, Player
from tests.daemons.imap.conftest import Service

SCRIPTS = Path(__file__).parent / "scripts" / "imaptest"
NAMES = sorted(path.name for path in SCRIPTS.iterdir() if path.suffix != ".mbox")
# Why a script is not played. Nothing else may be left out.
LEFT_OUT = {
    "urlauth2": "URLAUTH (RFC 4467) is not offered",
}
# What a script asks for and must not get.
DIFFERENT = {
    "append-binary": "the literal it expects is an octet short of the size it expects; imaptest compares up to the first NUL",
}


def mbox_of(name: str) -> bytes:
    """The mailbox a script runs on."""
    own = SCRIPTS / f"{name}.mbox"
    return (own if own.exists() else SCRIPTS / "default.mbox").read_bytes()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEFT_OUT])
async def test_script(name: str, service: Service) -> None:
    """Every reply that the script asks for comes, and none that it forbids."""
    script = read(SCRIPTS / name)
    async with await service.client() as client:
        offered = {token for line in await client.ok(b"CAPABILITY") for token in line.decode().upper().split()}
    assert script.capabilities <= offered
    player = Player(script, mbox_of(name), service.person.login, PASSWORD)
    expected = pytest.raises(Mismatch) if name in DIFFERENT else contextlib.nullcontext()
    with expected:
        await player.play(service.endpoints["imaps"], service.tls)

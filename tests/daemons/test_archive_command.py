"""`postwerk archive`, called as a user calls it: as a program of its own."""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import pytest

from config.loader import dump
from daemons.context import Context
from storage.archive.checkpoint import open_note
from storage.archive.keys import trusted_keys
from tests.conftest import Person
from tests.storage.archive.conftest import Deliver, deliver, new_archiver

__all__ = ["deliver"]  # the fixture


@pytest.fixture
async def configuration(context: Context, account: Person, deliver: Deliver) -> Path:
    """The configuration file of a suite with three signed messages and one that waits."""
    await deliver(3)
    archiver = new_archiver(context)
    await archiver.archive_batch()
    await archiver.sign_due(everything=True)
    await deliver(1)
    path = Path(context.settings.state) / "postwerk.toml"
    path.write_text(dump(context.settings), "utf-8")
    return path


async def postwerk(configuration: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of `postwerk archive …`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from daemons.cli import main; main()",
        "archive",
        *arguments,
        "--config",
        str(configuration),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def tamper(owner: "asyncpg.Connection[asyncpg.Record]", statement: str) -> None:
    """Change what the triggers guard."""
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute(statement)


async def test_verify_of_an_intact_archive(configuration: Path) -> None:
    """An intact archive is a table with the verdict, and exit code 0."""
    code, output, errors = await postwerk(configuration, "verify")
    assert (code, errors) == (0, "")
    head, row = (line.split() for line in output.splitlines())
    assert head[:2] == ["tenant", "leaves"]
    assert (row[0], row[1], row[-1]) == ("example", "3", "intact")


async def test_verify_names_what_it_finds(configuration: Path, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A finding is a line with tenant and sequence number, and exit code 1."""
    await tamper(owner, "UPDATE archive_message SET salt = set_byte(salt, 0, get_byte(salt, 0) # 1) WHERE seq = 1")
    code, output, errors = await postwerk(configuration, "verify", "--tenant", "example")
    assert (code, errors) == (1, "")
    assert "1 FINDINGS" in output
    assert output.endswith("example: leaf 1: the commitment is not to this salt, digest and envelope\n")


async def test_verify_as_json(configuration: Path, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The same for programs."""
    code, output, _ = await postwerk(configuration, "verify", "--json")
    (report,) = json.loads(output)
    assert code == 0
    assert report == {
        "tenant": "example", "tenant_id": report["tenant_id"], "intact": True, "leaves": 3, "messages": 3,
        "octets": report["octets"], "checkpoints": 1, "unsigned": 0, "accepted": 4, "waiting": 1, "head_copy": True,
        "finding_count": 0, "findings": [],
    }  # fmt: skip
    await tamper(owner, "DELETE FROM archive_leaf WHERE seq = 2")
    code, output, _ = await postwerk(configuration, "verify", "--json")
    (report,) = json.loads(output)
    assert (code, report["intact"]) == (1, False)
    assert {"seq": 2, "what": "checkpoint 0 covers 3 leaves, but only 2 are there"} in report["findings"]


async def test_status(configuration: Path, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The standing of each log, and whether the newest checkpoint's signature is good."""
    code, output, _ = await postwerk(configuration, "status", "--json")
    assert code == 0
    assert json.loads(output) == [
        {"tenant": "example", "leaves": 3, "signed": 3, "checkpoint": 0, "signature": "good", "waiting": 1}
    ]
    await tamper(owner, "UPDATE archive_checkpoint SET note = replace(note, 'postwerk 0', 'postwerk 1')")
    _, output, _ = await postwerk(configuration, "status")
    assert "BAD: no trusted key" in output


async def test_checkpoint(context: Context, configuration: Path, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The newest note comes as it was signed, with the key that verifies it on demand."""
    code, output, _ = await postwerk(configuration, "checkpoint", "--tenant", "example")
    assert code == 0
    assert output == await owner.fetchval("SELECT note FROM archive_checkpoint")
    opened = open_note(output, trusted_keys(context.settings.archive_key_file))
    assert opened.size == 3
    _, output, _ = await postwerk(configuration, "checkpoint", "--tenant", "example", "--key")
    assert output.splitlines()[-1].startswith(f"{opened.origin}+")


@pytest.mark.parametrize(
    "arguments",
    [("verify", "--tenant", "nobody"), ("status", "--tenant", "nobody"), ("checkpoint", "--tenant", "nobody")],
)
async def test_an_unknown_tenant_is_one_line(configuration: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 67 of sysexits, and one line."""
    code, output, errors = await postwerk(configuration, *arguments)
    assert (code, output, errors) == (67, "", "postwerk: no tenant nobody\n")

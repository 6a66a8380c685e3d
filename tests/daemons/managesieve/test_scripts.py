"""Scripts over ManageSieve: put, checked, listed, read, activated, renamed, deleted, and all that is refused."""

import re

import msgspec
import pytest

from config.settings import Settings
from config.sieve import Sieve
from config.units import Octets
from daemons.certificates import Issued
from storage import settings as simple
from tests.conftest import Owner, Person, add_person
from tests.daemons.managesieve.conftest import KEEP, Stage, literal, opened, with_managesieve

NONEXISTENT = b'NO (NONEXISTENT) "there is no script of that name"'
WRONG = b'if true {\r\n  fileinto "a";\r\n  frobnicate;\r\n}\r\n'


async def test_a_script_comes_back_octet_for_octet(stage: Stage, account: Person) -> None:
    """GETSCRIPT gives what PUTSCRIPT stored, with its line ends and its umlauts; a second PUTSCRIPT replaces it."""
    script = '# Grüße, "quoted" {5+}\n\r\nkeep;'.encode()
    async with stage.client(account) as client:
        assert await client.put("meins", script) == b"OK"
        assert await client.ask(b'GETSCRIPT "meins"') == [b"{%d}\r\n" % len(script) + script, b"OK"]
        assert await client.put("meins", KEEP) == b"OK"
        assert await client.ask(b'GETSCRIPT "meins"') == [b"{7}\r\n" + KEEP, b"OK"]
        assert await client.ask(b'GETSCRIPT "other"') == [NONEXISTENT]


async def test_errors_come_with_line_and_column(stage: Stage, account: Person) -> None:
    """A script that does not compile is not stored, and all its errors are told, each with its line and column."""
    errors = "\r\n".join(
        (
            "line 2, column 3: fileinto command needs 'fileinto' to be required",
            "line 3, column 3: unknown command 'frobnicate'",
        )
    )
    async with stage.client(account) as client:
        for command in (b"CHECKSCRIPT ", b'PUTSCRIPT "wrong" '):
            answer = await client.status(command + literal(WRONG))
            head, _, text = answer.partition(b"\r\n")
            assert head == b"NO {%d}" % len(text)
            places = [line.partition(":")[0] for line in text.decode().split("\r\n")]
            assert places == [line.partition(":")[0] for line in errors.split("\r\n")]
        assert await client.ask(b"LISTSCRIPTS") == [b"OK"]
        answer = await client.status(b"CHECKSCRIPT " + literal(b"keep;\r\nnothing;\r\n"))
        assert answer == b"NO \"line 2, column 1: unknown command 'nothing'\""


async def test_a_refused_script_leaves_the_old_one(stage: Stage, account: Person) -> None:
    """What is stored under a name stays when the new script is refused."""
    async with stage.client(account) as client:
        assert await client.put("a", KEEP) == b"OK"
        assert (await client.put("a", WRONG)).startswith(b"NO {")
        assert await client.put("a", b"") == b'NO "the script is empty"'
        assert await client.ask(b'GETSCRIPT "a"') == [b"{7}\r\n" + KEEP, b"OK"]


async def test_warnings_come_with_line_and_column(stage: Stage, account: Person) -> None:
    """A script that is valid but odd is stored, and its warnings are told with their places."""
    script = b'if header :is "sub ject" "x" {\r\n  keep;\r\n}\r\n'
    async with stage.client(account) as client:
        answers = [await client.status(b"CHECKSCRIPT " + literal(script)), await client.put("odd", script)]
        for answer in answers:
            assert answer.startswith(b"OK (WARNINGS) \"line 1, column 15: 'sub ject' ")
        assert await client.ask(b"LISTSCRIPTS") == [b'"odd"', b"OK"]


async def test_checking_stores_nothing(stage: Stage, account: Person) -> None:
    """CHECKSCRIPT says OK to a good script, which is then not there."""
    async with stage.client(account) as client:
        assert await client.status(b"CHECKSCRIPT " + literal(KEEP)) == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b"OK"]


async def test_one_script_is_active(stage: Stage, account: Person) -> None:
    """SETACTIVE moves the mark, "" takes it away, and that again is no error."""
    async with stage.client(account) as client:
        for name in ("b", "a"):
            assert await client.put(name, KEEP) == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b'"b"', b"OK"]
        assert await client.status(b'SETACTIVE "a"') == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"a" ACTIVE', b'"b"', b"OK"]
        assert await client.status(b'SETACTIVE "b"') == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b'"b" ACTIVE', b"OK"]
        assert await client.status(b'SETACTIVE "c"') == NONEXISTENT
        assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b'"b" ACTIVE', b"OK"]
        assert await client.put("b", b"stop;") == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b'"b" ACTIVE', b"OK"]
        for _ in range(2):
            assert await client.status(b'SETACTIVE ""') == b"OK"
            assert await client.ask(b"LISTSCRIPTS") == [b'"a"', b'"b"', b"OK"]


async def test_deleting(stage: Stage, account: Person) -> None:
    """DELETESCRIPT removes a script, but not the active one, and not one that is not there."""
    async with stage.client(account) as client:
        await client.put("a", KEEP)
        await client.status(b'SETACTIVE "a"')
        assert await client.status(b'DELETESCRIPT "a"') == b'NO (ACTIVE) "the active script cannot be deleted"'
        await client.status(b'SETACTIVE ""')
        assert await client.status(b'DELETESCRIPT "a"') == b"OK"
        assert await client.status(b'DELETESCRIPT "a"') == NONEXISTENT


async def test_renaming(stage: Stage, account: Person) -> None:
    """RENAMESCRIPT keeps the script and its mark, and takes no name that is in use."""
    taken = b'NO (ALREADYEXISTS) "there is a script of that name"'
    async with stage.client(account) as client:
        await client.put("a", KEEP)
        await client.put("b", b"stop;")
        await client.status(b'SETACTIVE "a"')
        assert await client.status(b'RENAMESCRIPT "a" "b"') == taken
        assert await client.status(b'RENAMESCRIPT "a" "a"') == taken
        assert await client.status(b'RENAMESCRIPT "x" "x"') == NONEXISTENT
        assert await client.status(b'RENAMESCRIPT "x" "y"') == NONEXISTENT
        assert await client.status(b'RENAMESCRIPT "a" "c"') == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"b"', b'"c" ACTIVE', b"OK"]
        assert await client.ask(b'GETSCRIPT "c"') == [b"{7}\r\n" + KEEP, b"OK"]


async def test_names(stage: Stage, account: Person) -> None:
    """Names are any text of 1 to 128 characters without line ends; what looks alike is the same name."""
    longest = "ü" * 128
    async with stage.client(account) as client:
        assert await client.put(longest, KEEP) == b"OK"
        assert await client.put("u\u0308" * 128, KEEP) == b"OK"  # the same in NFD
        assert await client.put('say \\"hi\\"', KEEP) == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [b'"say \\"hi\\""', b'"' + longest.encode() + b'"', b"OK"]
        assert await client.put(longest + "x", KEEP) == b'NO "a script\'s name has at most 128 characters"'
        assert await client.put("", KEEP) == b'NO "a script\'s name cannot be empty"'
        for bad in ("a\tb", "\x7f", "\x85", "\u2028", "\u2029"):
            answer = await client.put(bad, KEEP)
            assert answer == b'NO "a script\'s name has no control characters and no line ends"'
        assert await client.status(b"GETSCRIPT {1+}\r\n\xff") == b'NO "expected UTF-8 in a script\'s name"'


@pytest.mark.parametrize("command", [b"HAVESPACE", b"PUTSCRIPT"])
async def test_limits(command: bytes, settings: Settings, account: Person, certificate: Issued) -> None:
    """One script too large, one too many and too much of all are refused, each with its code; the session goes on."""
    limited = with_managesieve(settings, script_count_limit=3, script_total_limit=Octets(1500))
    limited = msgspec.structs.replace(limited, sieve=Sieve(script_octets=Octets(1000)))

    def asking(name: bytes, size: int) -> bytes:
        script = b"keep;" + b" " * (size - 5)
        return command + b' "' + name + b'" ' + (b"%d" % size if command == b"HAVESPACE" else literal(script))

    async with opened(limited, certificate) as stage, stage.client(account) as client:
        refused = await client.status(asking(b"a", 1001))
        assert refused.startswith(b"NO (QUOTA/MAXSIZE) ")
        assert await client.status(asking(b"a", 1000)) == b"OK"
        assert await client.put("a", b"keep;" + b" " * 995) == b"OK"
        assert await client.status(asking(b"b", 501)) == b'NO (QUOTA) "all scripts together can have 1500 octets"'
        assert await client.status(asking(b"a", 900)) == b"OK"
        await client.put("a", KEEP)
        await client.put("b", KEEP)
        await client.put("c", KEEP)
        assert await client.status(asking(b"d", 10)) == b'NO (QUOTA/MAXSCRIPTS) "there can be 3 scripts"'
        assert await client.status(asking(b"c", 10)) == b"OK"


async def test_a_script_beyond_all_limits_ends_the_session(
    settings: Settings, account: Person, certificate: Issued
) -> None:
    """What is too large to be read and dropped is answered with BYE before it has come."""
    limited = with_managesieve(settings, discard_limit=Octets(10_000))
    async with opened(limited, certificate) as stage, stage.client(account) as client:
        client.writer.write(b'PUTSCRIPT "a" {4000000000+}\r\nkeep;')
        assert await client.line() == b'BYE "too much to discard"'
        assert await client.at_end()


async def test_others_scripts_are_not_seen(settings: Settings, stage: Stage, account: Person, owner: Owner) -> None:
    """Two accounts with scripts of the same name have nothing to do with each other."""
    bob = await add_person(settings, owner, "bob@example.test")
    async with stage.client(account) as alices, stage.client(bob) as bobs:
        await alices.put("a", KEEP)
        await alices.status(b'SETACTIVE "a"')
        assert await bobs.ask(b"LISTSCRIPTS") == [b"OK"]
        for command in (b'GETSCRIPT "a"', b'SETACTIVE "a"', b'DELETESCRIPT "a"', b'RENAMESCRIPT "a" "b"'):
            assert await bobs.status(command) == NONEXISTENT
        await bobs.put("a", b"stop;")
        assert await alices.ask(b'GETSCRIPT "a"') == [b"{7}\r\n" + KEEP, b"OK"]


async def test_a_pipeline(stage: Stage, account: Person) -> None:
    """Commands that are sent together are done in order and answered in order."""
    async with stage.client(account) as client:
        client.say(b'PUTSCRIPT "a" ' + literal(KEEP), b'SETACTIVE "a"', b"LISTSCRIPTS", b"LOGOUT", b"LISTSCRIPTS")
        assert await client.answer() == [b"OK"]
        assert await client.answer() == [b"OK"]
        assert await client.answer() == [b'"a" ACTIVE', b"OK"]
        assert await client.answer() == [b'OK "bye"']
        assert await client.at_end()


async def test_when_the_disk_is_full(stage: Stage, account: Person, owner: Owner) -> None:
    """What cannot be stored now is refused with TRYLATER and an id that the log has, too; the session goes on."""
    async with stage.client(account) as client:
        await client.put("a", KEEP)
        await owner.execute(
            "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER away BEFORE INSERT ON sieve_script FOR EACH ROW EXECUTE FUNCTION away()"
        )
        assert re.fullmatch(rb'NO \(TRYLATER\) "try again later \([0-9a-f]{12}\)"', await client.put("a", b"stop;"))
        assert await client.ask(b'GETSCRIPT "a"') == [b"{7}\r\n" + KEEP, b"OK"]


async def test_simple_settings_are_seen_as_a_script(stage: Stage, owner: Owner, account: Person) -> None:
    """The script they were made into is listed and read; it is no script to write, activate, rename or delete."""
    read_only = b'NO "the script shows the simple settings, and changes with them"'
    name = f'"{simple.SCRIPT_NAME}"'.encode()
    async with stage.client(account) as client:
        assert await client.ask(b"LISTSCRIPTS") == [b"OK"]
        await simple.write(owner, account.account_id, "{}", KEEP)
        assert await client.put("mine", KEEP) == b"OK"
        assert await client.ask(b"LISTSCRIPTS") == [name, b'"mine"', b"OK"]
        assert await client.ask(b"GETSCRIPT " + name) == [b"{7}\r\n" + KEEP, b"OK"]
        assert await client.put(simple.SCRIPT_NAME, KEEP) == read_only
        for command in (
            b"SETACTIVE %b",
            b"DELETESCRIPT %b",
            b'RENAMESCRIPT %b "other"',
            b'RENAMESCRIPT "mine" %b',
            b"HAVESPACE %b 9",
        ):
            assert await client.status(command % name) == read_only
        assert await client.ask(b"LISTSCRIPTS") == [name, b'"mine"', b"OK"]

"""Apache James' IMAP scripts against our IMAP service (scripts/james, Apache-2.0)."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.settings import Settings
from tests.conftest import PASSWORD, Owner, add_person
from tests.daemons.imap.conformance.different import DIFFERENT
from tests.daemons.imap.conformance.james import OTHERS, Exchange, Player, read, text_of, wanted
from tests.daemons.imap.conformance.james import our_command as command_of
from tests.daemons.imap.conftest import Service
from tests.daemons.imap.conversation import Client

SCRIPTS = Path(__file__).parent / "scripts" / "james"
PATHS = sorted(SCRIPTS.rglob("*.test"))
NEEDS_SELECTED = re.compile(r"(?i)[^ ]+ (?:UID )?(?:FETCH|STORE|SEARCH|COPY|MOVE|EXPUNGE|CLOSE|CHECK|UNSELECT)\b")
SELECTS = re.compile(r"(?i)[^ ]+ (?:SELECT|EXAMINE)\b")
# What James' test programs play before anyone has logged in, besides the scripts that log in themselves.
BEFORE_LOGIN = {
    "Authenticate",
    "BadTag",
    "BogusCommand",
    "JustTag",
    "NoTag",
    "ValidAuthenticated",
    "ValidSelected",
    "Welcome",
}
RIGHTS = {"RenameSharedMailbox": "eiklprstwx"}  # where a name does not tell them and they are not "lr"
OTHER = re.compile(r"Other Users/([^/]+)/(.+)")
MAIL = "Subject: one of the prepared\r\n\r\nText.\r\n"


def needs_selected(exchanges: list[Exchange]) -> bool:
    """Whether the script expects to begin in James' selected state."""
    named = [
        exchange.sent[0] for exchange in exchanges if "selected" in " ".join([*exchange.sent, *exchange.responses])
    ]
    if named:
        return " CREATE " not in named[0]
    for exchange in exchanges:
        if SELECTS.match(exchange.sent[0]):
            return False
        if NEEDS_SELECTED.match(exchange.sent[0]):
            return True
    return False


@dataclass
class Prepared:
    """A mailbox that a script expects to be there."""

    rights: str
    messages: int = 0


def prepared_mailboxes(exchanges: list[Exchange], default_rights: str) -> dict[str, Prepared]:
    """What James' test programs make before their scripts: others' mailboxes with alice's rights, as the scripts tell."""
    found: dict[str, Prepared] = {}
    changed = False
    for exchange in exchanges:
        for response in exchange.responses:
            if changed or not re.match(r"\* (?:LIST|MYRIGHTS|STATUS) ", response):
                continue
            values = wanted(response)
            name = text_of(values[3 if values[0] == "LIST" else 1])
            if not OTHER.match(name) and "user.imapuser." not in response:
                continue
            suffix = re.search(r"-([a-z]+)\Z", name)
            prepared = found.setdefault(name, Prepared(suffix[1] if suffix else default_rights))
            if values[0] == "MYRIGHTS":
                prepared.rights = re.sub("[cd]", "", text_of(values[2]))
            elif values[0] == "STATUS" and isinstance(values[2], list) and values[2][0] == "MESSAGES":
                prepared.messages = int(text_of(values[2][1]))
        command = command_of(exchange.sent[0])
        changed = changed or re.match(r"[^ ]+ (?:CREATE|RENAME|COPY|APPEND)\b", command) is not None
        if SELECTS.match(command) and not changed:
            name = command.split(" ", 2)[2].strip('"')
            exists = [
                int(response.split()[1]) for response in exchange.responses if re.match(r"\* \d+ EXISTS", response)
            ]
            unseen = sum(response.startswith("* OK [UNSEEN") for response in exchange.responses)
            if name in found or " user." in exchange.sent[0] or not exists:
                prepared = found.setdefault(name, Prepared(default_rights))
                prepared.messages = prepared.messages or sum(exists) or unseen
    return found


async def prepare(
    service: Service, exchanges: list[Exchange], default_rights: str, settings: Settings, owner: Owner
) -> None:
    """Make boby, diana and what the script expects."""
    people = {login: await add_person(settings, owner, login) for login in OTHERS.values()}
    async with await service.client() as alice:
        for line in await alice.ok(b'LIST "" (*)'):  # James' accounts begin with INBOX
            if not line.endswith(b" INBOX"):
                await alice.ok(b"DELETE " + line.rpartition(b" ")[2])
                await alice.ok(b"UNSUBSCRIBE " + line.rpartition(b" ")[2])
        for name, wish in prepared_mailboxes(exchanges, default_rights).items():
            other = OTHER.match(name)
            if other is None:
                await alice.command(f'CREATE "{name}"'.encode())
                await fill(alice, name, wish)
                continue
            async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
                await client.login(people[other[1]].login)
                await client.command(f'CREATE "{other[2]}"'.encode())
                await fill(client, other[2], wish)
                await client.ok(f'SETACL "{other[2]}" {service.person.login} {wish.rights}'.encode())
            if "l" in wish.rights:
                await alice.ok(f'SUBSCRIBE "{name}"'.encode())


async def fill(client: Client, name: str, wish: Prepared) -> None:
    """Append the messages, the third and fourth of four with a flag as in James' test programs."""
    for number in range(wish.messages):
        flags = ("", "", "\\Flagged", "\\Deleted")[number] if number < 4 == wish.messages else ""
        await client.ok(f'APPEND "{name}" ({flags}) {{{len(MAIL)}+}}\r\n{MAIL}'.encode())


async def connect(service: Service, *, logged_in: bool) -> Client:
    """A connection as James' test programs hand it to a script."""
    client = await Client.connect(service.endpoints["imaps"], service.tls)
    if logged_in:
        await client.login(service.person.login)
    return client


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_script(path: Path, service: Service, settings: Settings, owner: Owner) -> None:
    """What the script says comes, but for the exchanges that are listed with the reason why not."""
    exchanges = read(path)
    await prepare(service, exchanges, RIGHTS.get(path.stem, "lr"), settings, owner)
    logs_in = any(" LOGIN " in exchange.sent[0] for exchange in exchanges) or path.stem in BEFORE_LOGIN
    sessions = {exchange.session for exchange in exchanges} | {1}
    clients = {session: await connect(service, logged_in=not logs_in) for session in sessions}
    player = Player(clients, PASSWORD)
    try:
        if path.stem not in BEFORE_LOGIN and needs_selected(exchanges):
            await Player(clients, PASSWORD).play(read(SCRIPTS / "SelectedStateSetup.test"))
        await player.play(exchanges)
    finally:
        for client in clients.values():
            await client.close()
    argued = {line for lines in DIFFERENT.get(path.stem, {}).values() for line in lines}
    assert player.differences.keys() == argued, "\n".join(player.differences.values())


def test_every_argued_script_exists() -> None:
    """Nothing is argued about scripts that are not played."""
    assert DIFFERENT.keys() <= {path.stem for path in PATHS}
    assert len(PATHS) == 121

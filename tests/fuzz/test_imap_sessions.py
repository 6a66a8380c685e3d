"""Two sessions on the same mailboxes get commands of all kinds, and garbage: what they are told must be possible."""

import itertools
from dataclasses import dataclass, replace

import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from protocol.imap import grammar as imap_grammar
from tests.conftest import PASSWORD, Owner, add_person
from tests.daemons.imap.conftest import Service, mail
from tests.fuzz.commands import COMMANDS, GARBAGE, SELECTS, Command
from tests.fuzz.model import BrokenError, ModelClient

EXAMPLES = settings().max_examples  # of the profile: 100, and many more with make fuzz
_MULTIPART = "Content-Type: multipart/mixed; boundary=a"
_MAILS = [
    mail("one", "body\r\n" * 20),
    mail("Re: one", "<b>html</b>\r\n", "Content-Type: text/html", "In-Reply-To: <one@example.test>"),
    mail("=?utf-8?q?gr=C3=BC=C3=9Fe?=", "--a\r\n\r\nfirst\r\n--a\r\n\r\nsecond\r\n--a--\r\n", _MULTIPART),
    mail("four", "\0\x01\xff\r\n", "Content-Transfer-Encoding: binary", "X-A: a"),
    mail("five", "aGFsbG8=\r\n", "Content-Transfer-Encoding: base64"),
]  # fmt: skip
_PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
_numbers = itertools.count(1)
Openings = tuple[tuple[bytes, Command], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What one of the connections does."""

    connection: int
    kind: str
    commands: list[Command]
    garbage: list[bytes]
    cuts: list[int]


_STEPS = st.builds(
    Step,
    st.integers(0, 1),
    st.sampled_from(["converse", "converse", "converse", "pipeline", "garbage"]),
    st.lists(COMMANDS, min_size=1, max_size=3),
    st.lists(GARBAGE, min_size=1, max_size=3),
    st.lists(st.integers(1, 40), max_size=3),
)
# What is done first: most sessions select, some enable something before it.
_ENABLED = st.sampled_from(
    [b"NOOP", b"NOOP", b"ENABLE CONDSTORE", b"ENABLE QRESYNC", b"ENABLE IMAP4rev2", b"ENABLE UIDONLY QRESYNC"]
)
_OPENINGS = st.tuples(_ENABLED, st.just((b"SELECT INBOX",)) | SELECTS)


async def _play(client: ModelClient, step: Step) -> None:
    if step.kind == "garbage":
        await client.garbage(step.garbage, step.cuts)
        return
    alone = (b"COMPRESS", b"IDLE", b"AUTHENTICATE")
    if step.kind == "pipeline":
        whole = [command[0] for command in step.commands if len(command) == 1 and not command[0].startswith(alone)]
        if whole:
            await client.pipeline(whole, step.cuts)
        return
    for command in step.commands:
        if not client.is_over:
            await client.converse(command, step.cuts)


async def _finish(client: ModelClient) -> None:
    """In the end the client knows as many messages as it is shown, in the order of their UIDs."""
    if client.is_over:
        return
    await client.pipeline([b"NOOP", b"UID FETCH 1:* (UID)", b"LOGOUT"], [])
    assert client.is_over


# A server that does not answer costs seconds each time, so a failure is shown as it was found.
@settings(max_examples=max(10, EXAMPLES // 4), suppress_health_check=list(HealthCheck), phases=_PHASES)
@given(st.tuples(_OPENINGS, _OPENINGS), st.lists(_STEPS, min_size=1, max_size=6))
async def test_sessions(service: Service, owner: Owner, openings: Openings, steps: list[Step]) -> None:
    """Each command gets one answer, no error of ours gets out, and no number is told that cannot be."""
    person = await add_person(service.context.settings, owner, f"fuzz{next(_numbers)}@example.test")
    await _hold(replace(service, person=person), openings, steps)


async def _hold(service: Service, openings: Openings, steps: list[Step]) -> None:
    await service.deliver(*_MAILS)
    await service.deliver(_MAILS[0], mailbox="A/B")
    clients: list[ModelClient] = []
    with structlog.testing.capture_logs() as logs:
        try:
            for enabled, selected in openings:
                client = await ModelClient.connect(service.endpoints["imaps"], service.tls)
                clients.append(client)
                await client.pipeline([f'LOGIN "{service.person.login}" "{PASSWORD}"'.encode(), enabled], [])
                await client.converse(selected, [])
            for step in steps:
                client = clients[step.connection]
                if not client.is_over:
                    await _play(client, step)
            for client in clients:
                await _finish(client)
        except (BrokenError, TimeoutError) as error:
            told = [line.decode("latin-1") for client in clients for line in [b"-- connection", *client.log]]
            raise AssertionError("\n".join([*told, repr(error)])) from error
        finally:
            for client in clients:
                await client.close()
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical") or "exc_info" in entry] == []


def test_all_verbs_are_drawn() -> None:
    """Each command of the grammar is among those that sessions get."""
    drawn: set[bytes] = set()

    @settings(max_examples=600, database=None, derandomize=True)
    @given(COMMANDS)
    def draw(command: Command) -> None:
        words = command[0].upper().split()
        drawn.add(words[0])
        drawn.add(b" ".join(words[:2]))

    draw()
    assert imap_grammar._PRODUCTIONS.keys() - {b"UID"} <= drawn
    assert {b"UID " + verb for verb in imap_grammar._UID_PRODUCTIONS} <= drawn

"""The POP3 session: the transition table row by row, hostile octets, and what CAPA tells."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.pop3 import command as pop3
from protocol.pop3 import texts
from protocol.pop3.command import Command
from protocol.pop3.session import TRANSITIONS, Event, Limits, Policy, Response, ServerSession, State, capabilities
from protocol.pop3.texts import Text, phrase
from tests.feeding import cut

LINES: dict[type[Command], bytes] = {
    pop3.Capa: b"CAPA",
    pop3.User: b"USER alice",
    pop3.Pass: b"PASS secret",
    pop3.Auth: b"AUTH PLAIN",
    pop3.Stls: b"STLS",
    pop3.Utf8: b"UTF8",
    pop3.Lang: b"LANG de",
    pop3.Stat: b"STAT",
    pop3.List: b"LIST",
    pop3.Uidl: b"UIDL",
    pop3.Retr: b"RETR 1",
    pop3.Top: b"TOP 1 0",
    pop3.Dele: b"DELE 1",
    pop3.Rset: b"RSET",
    pop3.Noop: b"NOOP",
    pop3.Quit: b"QUIT",
}


def test_every_command_has_a_row() -> None:
    """The table test below leaves no command out."""
    assert set(LINES) == set(get_args(Command))


def session_in(state: State) -> ServerSession:
    session = ServerSession()
    session.state = state
    return session


@pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("state", [State.AUTHORIZATION, State.NAMED, State.TRANSACTION])
def test_transition(state: State, kind: type[Command]) -> None:
    """A command in the state's row reaches the daemon and moves on after +OK; any other is answered -ERR."""
    session = session_in(state)
    session.receive(LINES[kind] + b"\r\n")
    event = session.next_event()
    if kind in TRANSITIONS[state]:
        assert type(event) is kind
        session.ok()
        assert session.state is TRANSITIONS[state][kind]
        assert session.is_over == (kind is pop3.Quit)
    else:
        assert event is None
        assert session.take_output() == b"-ERR not allowed in this state\r\n"
        assert session.state is state


def test_a_refused_quit_ends_the_session_too() -> None:
    """When the maildrop could not be updated, the session is over all the same (RFC 1939 §6)."""
    session = session_in(State.TRANSACTION)
    session.receive(b"QUIT\r\nNOOP\r\n")
    assert session.next_event() == pop3.Quit()
    session.refuse("some deleted messages not removed")
    assert session.is_over
    assert session.next_event() is None


def test_a_refused_command_changes_nothing() -> None:
    """After -ERR in the TRANSACTION state the session stays there."""
    session = session_in(State.TRANSACTION)
    session.receive(b"RETR 9\r\n")
    assert session.next_event() == pop3.Retr(9)
    session.refuse("no such message")
    assert session.state is State.TRANSACTION


def test_start_tls_forgets_the_clear_text() -> None:
    """Octets that came before the handshake are not read after it (CVE-2011-0411)."""
    session = ServerSession()
    session.receive(b"STLS\r\nUSER mallory\r\nPASS e")
    assert session.next_event() == pop3.Stls()
    session.ok()
    session.start_tls()
    session.receive(b"vil\r\n")
    assert session.next_event() is None
    assert session.take_output() == b"-ERR unknown command\r\n"


def test_passwords_are_in_no_repr() -> None:
    """Commands can be logged by accident without giving a password away."""
    commands = (pop3.Pass("hunter2"), pop3.Auth(b"PLAIN", b"aHVudGVyMg=="), Response(b"aHVudGVyMg=="))
    assert not any("hunter2" in repr(command) or "aHVudGVyMg" in repr(command) for command in commands)


def converse(octets: bytes, step: int | None) -> tuple[list[Event], bytes, State]:
    session = ServerSession(Limits(line_octets=40, response_octets=60, errors=5))
    events: list[Event] = []
    for piece in cut(octets, step):
        session.receive(piece)
        while (event := session.next_event()) is not None:
            events.append(event)
            if isinstance(event, pop3.Auth) and event.initial is None:
                session.challenge(b"")
            elif isinstance(event, Response) and event.line == b"*":
                session.refuse("cancelled")
            else:
                session.ok()
        assert session.is_over or len(session._lines._octets) < 60
    return events, session.take_output(), session.state


WORDS = st.sampled_from(
    [*LINES.values(), b"\r\n", b"\n", b"\r", b" ", b"\0", b"*", b"AUTH PLAIN AA==", b"x" * 50, b"\xff"]
)


@given(
    octets=st.lists(WORDS).map(b"".join)
    | st.lists(st.sampled_from([*LINES.values(), b"x" * 41, b"*"])).map(b"\r\n".join)
    | st.binary(),
    step=st.integers(1, 50),
)
def test_any_octets(octets: bytes, step: int) -> None:
    """Any octets give commands or -ERR replies, in bounded memory, and the same ones however they are cut."""
    assert converse(octets, step) == converse(octets, None)


def lines_of(
    state: State, *, may_authenticate: bool = True, may_start_tls: bool = False, policy: Policy | None = None
) -> list[str]:
    return capabilities(
        state=state,
        may_authenticate=may_authenticate,
        may_start_tls=may_start_tls,
        mechanisms=["PLAIN"],
        implementation="Postwerk",
        policy=policy or Policy(10),
    )


def test_capabilities_in_the_clear() -> None:
    """Without TLS and without leave for clear text, STLS is offered and no way to log in."""
    lines = lines_of(State.AUTHORIZATION, may_authenticate=False, may_start_tls=True)
    assert "STLS" in lines
    assert not {"USER", "SASL PLAIN", "IMPLEMENTATION Postwerk"} & set(lines)


def test_capabilities_in_tls() -> None:
    """In TLS both ways to log in are offered, and STLS no more."""
    lines = lines_of(State.NAMED, may_authenticate=True, may_start_tls=False)
    assert lines == [
        *("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG"),
        *("LOGIN-DELAY 10", "EXPIRE NEVER", "USER", "SASL PLAIN"),
    ]


def test_capabilities_after_the_login() -> None:
    """After the login STLS is not offered, and the implementation is named."""
    lines = lines_of(State.TRANSACTION, may_authenticate=True, may_start_tls=True)
    assert "STLS" not in lines
    assert "IMPLEMENTATION Postwerk" in lines


def test_capabilities_of_policies() -> None:
    """A stranger is told what binds some user most, and that it varies; a user is told their own (RFC 2449 §6.5, §6.7)."""
    policy = Policy(60, 30, varies=True)
    assert {"LOGIN-DELAY 60 USER", "EXPIRE 30 USER"} <= set(lines_of(State.AUTHORIZATION, policy=policy))
    assert {"LOGIN-DELAY 60", "EXPIRE 30"} <= set(lines_of(State.TRANSACTION, policy=policy))
    assert "EXPIRE 0" in lines_of(State.TRANSACTION, policy=Policy(0, 0))


def test_every_text_is_there_in_every_language() -> None:
    """No sentence is missing in a language, all fill in the same values, and the default is ASCII (RFC 6856 §3)."""
    for text in Text:
        versions = [phrase(text, language) for language in texts.LANGUAGES]
        assert all(versions)
        assert len({tuple(sorted(re.findall(r"{\w+}", version))) for version in versions}) == 1, text
        assert phrase(text).isascii()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("de", "de"), ("DE", "de"), ("de-AT", "de"), ("en-US-x-odd", "en"), ("fr", None), ("d", None), ("", None)],
)
def test_language_lookup(wanted: str, found: str | None) -> None:
    """Subtags fall off until a language is left that is there (RFC 4647 §3.4)."""
    assert texts.matching(wanted) == found


def test_lang_speaks_from_its_own_reply_on() -> None:
    """Status lines come in the session's language, in UTF-8; codes and indicators stay (RFC 6856 §3.2)."""
    session = session_in(State.TRANSACTION)
    session.language = "de"
    session.receive(b"DELE 1\r\nNONSENSE\r\n")
    assert session.next_event() == pop3.Dele(1)
    session.ok(Text.DELETED, number=1)
    assert session.next_event() is None
    assert session.take_output() == "+OK Nachricht 1 gelöscht\r\n-ERR unbekannter Befehl\r\n".encode()

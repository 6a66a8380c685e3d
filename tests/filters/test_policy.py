"""Postfix's policy delegation protocol: questions, answers, and what a filter makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.policy import Policy, attributes_of
from filters.subject import Envelope
from filters.verdict import AddField, Drop, Quarantine, Refuse
from protocol.address import parse_addr_spec
from protocol.smtp.policy_delegation import Action, PolicyError, parse_answer, render_request

ENVELOPE = Envelope(
    transaction_id="0123456789abcdef",
    peer="2001:db8::1",
    helo="client.example",
    is_secure=True,
    is_authenticated=False,
    reverse_path=parse_addr_spec("sender@client.example"),
    forward_paths=(parse_addr_spec("alice@example.test"),),
)


class Answering:
    """A service that always answers the same."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def ask(self, attributes: object) -> Action:
        return parse_answer(self._answer)


def test_a_question() -> None:
    """One attribute in a line, an empty line at the end; no value can begin another line."""
    octets = render_request(attributes_of(ENVELOPE) | {"helo_name": "a\r\nrecipient=x@y.example\0"})
    lines = octets.decode().split("\n")
    assert lines[0] == "request=smtpd_access_policy"
    assert lines[-2:] == ["", ""]
    assert "client_address=2001:db8::1" in lines
    assert "sender=sender@client.example" in lines
    assert "recipient=alice@example.test" in lines
    assert "instance=0123456789abcdef" in lines
    assert "helo_name=arecipient=x@y.example" in lines


@pytest.mark.parametrize(
    ("answer", "code", "enhanced", "text"),
    [
        ("REJECT", 550, "5.7.1", "refused by policy"),
        ("reject not from there", 550, "5.7.1", "not from there"),
        ("550 5.7.23 SPF fails", 550, "5.7.23", "SPF fails"),
        ("554 4.7.1 odd class", 554, "5.7.1", "odd class"),
        ("451 4.4.3 try later", 451, "4.4.3", "try later"),
        ("421 go away", 421, "4.7.1", "go away"),
        ("DEFER", 450, "4.7.1", "refused by policy"),
        ("DEFER_IF_PERMIT 4.2.0 Greylisted", 450, "4.2.0", "Greylisted"),
        ("REJECT gr\u00fc\u00dfe\x07", 550, "5.7.1", "gr??e?"),
    ],
)
async def test_refusals(answer: str, code: int, enhanced: str, text: str) -> None:
    """What the service refuses is refused with its own words, printable ones, and a code of their class."""
    (refuse,) = await Policy(Answering(f"action={answer}\n\n".encode()), 1).check(ENVELOPE)
    assert isinstance(refuse, Refuse)
    assert (refuse.reply.code, str(refuse.reply.enhanced), refuse.reply.lines) == (code, enhanced, (text,))
    assert refuse.reason == f"policy service: {text}"


@pytest.mark.parametrize("answer", ["DUNNO", "dunno", "OK", "WARN look at this", "DEFER_IF_REJECT", "INFO x"])
async def test_nothing_against_it(answer: str) -> None:
    """The service has no objection."""
    assert await Policy(Answering(f"action={answer}\n\n".encode()), 1).check(ENVELOPE) == ()


async def test_other_actions() -> None:
    """A field is added on one line, a message dropped or held."""
    prepend = "action=PREPEND Received-SPF: Pass (mailfrom)\n\n"
    assert await Policy(Answering(prepend.encode()), 1).check(ENVELOPE) == [AddField("Received-SPF", "Pass (mailfrom)")]
    assert await Policy(Answering(b"action=DISCARD\n\n"), 1).check(ENVELOPE) == [Drop("policy service: discarded")]
    assert await Policy(Answering(b"x=y\naction=HOLD look\n\n"), 1).check(ENVELOPE) == [
        Quarantine("policy service: look")
    ]


@pytest.mark.parametrize(
    "answer", [b"", b"\n", b"status=ok\n\n", b"action=FILTER smtp:x\n\n", b"action=PREPEND nothing\n\n", b"action=\n\n"]
)
def test_answers_that_cannot_be_followed(answer: bytes) -> None:
    """What is no answer, or asks for what we cannot do, is an error: the filter's policy decides."""
    with pytest.raises(PolicyError):
        parse_answer(answer)


@given(st.binary(max_size=200))
def test_any_octets_are_an_answer_or_an_error(octets: bytes) -> None:
    """A service may write what it wants: nothing else is raised, and what is refused has a valid reply."""
    try:
        action = parse_answer(b"action=" + octets)
    except PolicyError:
        return
    assert (action.kind == "refuse") == (action.reply is not None)

"""SMTP command lines: what each production takes, what it refuses with which reply, and that nothing else ever happens."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.address import AddrSpec
from protocol.smtp.command import (
    Auth,
    Bdat,
    Command,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    parse_command,
)
from protocol.smtp.parameters import (
    FUTURE_RELEASE_PARAMETERS,
    SUBMISSION_PARAMETERS,
    TLS_PARAMETERS,
    CommandError,
    DeliverBy,
    MailParameters,
    RcptParameters,
)
from protocol.smtp.reply import Reply

ALICE = AddrSpec("alice", "example.test")
EVERYTHING = SUBMISSION_PARAMETERS | FUTURE_RELEASE_PARAMETERS | TLS_PARAMETERS


def mail(**parameters: object) -> Mail:
    return Mail(ALICE, MailParameters(**parameters), has_parameters=True)  # type: ignore[arg-type]


def rcpt(**parameters: object) -> Rcpt:
    return Rcpt(ALICE, RcptParameters(**parameters), has_parameters=True)  # type: ignore[arg-type]


TAKEN: list[tuple[str, Command]] = [
    ("EHLO client.example", Hello("EHLO", "client.example")),
    ("ehlo client.example", Hello("EHLO", "client.example")),
    ("EHLO [192.0.2.1]", Hello("EHLO", "[192.0.2.1]")),
    ("EHLO [IPv6:2001:db8::1]", Hello("EHLO", "[IPv6:2001:db8::1]")),
    ("HELO my_pc ", Hello("HELO", "my_pc")),
    ("LHLO a.b.", Hello("LHLO", "a.b.")),
    ("MAIL FROM:<>", Mail(None, MailParameters())),
    ("MAIL FROM:<alice@example.test>", Mail(ALICE, MailParameters())),
    ("mail from:<alice@example.test>", Mail(ALICE, MailParameters())),
    ("MAIL FROM: <alice@example.test>", Mail(ALICE, MailParameters())),
    ("MAIL FROM:<alice@example.test> ", Mail(ALICE, MailParameters())),
    ("MAIL FROM:<@a.example,@b.example:alice@example.test>", Mail(ALICE, MailParameters())),
    ('MAIL FROM:<"a b"@[192.0.2.1]>', Mail(AddrSpec("a b", "[192.0.2.1]"), MailParameters())),
    (r'MAIL FROM:<"a\"\\b"@x>', Mail(AddrSpec('a"\\b', "x"), MailParameters())),
    ('MAIL FROM:<""@x>', Mail(AddrSpec("", "x"), MailParameters())),
    ('MAIL FROM:<">"@x>', Mail(AddrSpec(">", "x"), MailParameters())),
    ("MAIL FROM:<!#$%&'*+-/=?^_`{|}~@x>", Mail(AddrSpec("!#$%&'*+-/=?^_`{|}~", "x"), MailParameters())),
    ("MAIL FROM:<a@xn--bcher-kva.example>", Mail(AddrSpec("a", "xn--bcher-kva.example"), MailParameters())),
    ("MAIL FROM:<alice@example.test> SIZE=1000", mail(size_octets=1000)),
    ("MAIL FROM:<alice@example.test>  size=0  body=8bitmime", mail(size_octets=0, body="8BITMIME")),
    ("MAIL FROM:<alice@example.test> BODY=7BIT RET=HDRS ENVID=a+2Bb", mail(ret="HDRS", envid="a+b")),
    (
        "MAIL FROM:<jörg@bücher.example> SMTPUTF8",
        Mail(AddrSpec("jörg", "bücher.example"), MailParameters(is_smtputf8=True), has_parameters=True),
    ),
    ("RCPT TO:<alice@example.test>", Rcpt(ALICE, RcptParameters())),
    ("RCPT TO:<Postmaster>", Rcpt(AddrSpec("postmaster", ""), RcptParameters())),
    ("rcpt to:<POSTMASTER>", Rcpt(AddrSpec("postmaster", ""), RcptParameters())),
    ("RCPT TO:<@relay.example:alice@example.test>", Rcpt(ALICE, RcptParameters())),
    ("RCPT TO:<alice@example.test> NOTIFY=NEVER", rcpt(notify=("NEVER",))),
    ("RCPT TO:<alice@example.test> NOTIFY=success,DELAY", rcpt(notify=("SUCCESS", "DELAY"))),
    ("RCPT TO:<alice@example.test> ORCPT=rfc822;bob+2Btag@x", rcpt(orcpt="rfc822;bob+tag@x")),
    (r"RCPT TO:<alice@example.test> ORCPT=utf-8;j\x{F6}rg@x", rcpt(orcpt="utf-8;jörg@x")),
    ("AUTH PLAIN", Auth(b"PLAIN", None)),
    ("auth scram-sha-256-plus =", Auth(b"scram-sha-256-plus", b"=")),
    ("AUTH PLAIN AGEAYg== ", Auth(b"PLAIN", b"AGEAYg==")),
    ("DATA", Data()),
    ("data ", Data()),
    ("BDAT 0", Bdat(0, is_last=False)),
    ("BDAT 1000 LAST", Bdat(1000, is_last=True)),
    ("bdat 7 last", Bdat(7, is_last=True)),
    ("RSET", Rset()),
    ("VRFY alice", Vrfy()),
    ("HELP", Help()),
    ("HELP MAIL", Help()),
    ("NOOP", Noop()),
    ("NOOP anything at all", Noop()),
    ("QUIT", Quit()),
    ("STARTTLS", StartTls()),
]

REFUSED = [
    ("", "500 5.5.1"),
    (" ", "500 5.5.1"),
    ("FOO", "500 5.5.1"),
    ("EXPN staff", "500 5.5.1"),
    ("MAILFROM:<>", "500 5.5.1"),
    ("AUTH", "501 5.5.4"),
    ("AUTH PLAIN a b", "501 5.5.4"),
    ("AUTH " + "X" * 21, "501 5.5.4"),
    ("AUTH PL@IN", "501 5.5.4"),
    ("AUTH PLAIN \u00e9", "501 5.5.4"),
    ("DATA\x00", "500 5.5.2"),
    ("NOOP \x7f", "500 5.5.2"),
    ("NOOP a\rb", "500 5.5.2"),
    ("NOOP\tb", "500 5.5.2"),
    ("NOOP \x85", "500 5.5.2"),
    ("EHLO", "501 5.5.4"),
    ("EHLO two words", "501 5.5.4"),
    ("EHLO [192.0.2]", "501 5.5.4"),
    ("EHLO -", "501 5.5.4"),
    ("EHLO bücher.example", "501 5.5.4"),
    ("MAIL", "501 5.5.4"),
    ("MAIL <a@b>", "501 5.5.4"),
    ("MAIL FROM :<a@b>", "501 5.5.4"),
    ("MAIL TO:<a@b>", "501 5.5.4"),
    ("MAIL FROM:", "501 5.1.7"),
    ("MAIL FROM:a@b", "501 5.1.7"),
    ("MAIL FROM:<a@b", "501 5.1.7"),
    ("MAIL FROM:<a>", "501 5.1.7"),
    ("MAIL FROM:<@b>", "501 5.1.7"),
    ("MAIL FROM:<a@>", "501 5.1.7"),
    ("MAIL FROM:<a@b@c>", "501 5.1.7"),
    ("MAIL FROM:<.a@b>", "501 5.1.7"),
    ("MAIL FROM:<a.@b>", "501 5.1.7"),
    ("MAIL FROM:<a..b@c>", "501 5.1.7"),
    ("MAIL FROM:<a b@c>", "501 5.1.7"),
    ("MAIL FROM:<a@b_c.example>", "501 5.1.7"),
    ("MAIL FROM:<a@-b.example>", "501 5.1.7"),
    ("MAIL FROM:<a@b-.example>", "501 5.1.7"),
    ("MAIL FROM:<a@b.example.>", "501 5.1.7"),
    ("MAIL FROM:<a@b..example>", "501 5.1.7"),
    ("MAIL FROM:<a@[192.0.2.256]>", "501 5.1.7"),
    ("MAIL FROM:<a@[IPv6:::g]>", "501 5.1.7"),
    ('MAIL FROM:<"a"b@c>', "501 5.1.7"),
    ('MAIL FROM:<"a@c>', "501 5.1.7"),
    ("MAIL FROM:< a@c>", "501 5.1.7"),
    ("MAIL FROM:<Postmaster>", "501 5.1.7"),
    (f"MAIL FROM:<{'a' * 129}@b>", "501 5.1.7"),
    (f"MAIL FROM:<a@{'b' * 255}>", "501 5.1.7"),
    ("MAIL FROM:<>SIZE=1", "501 5.5.4"),
    ("MAIL FROM:<> SIZE=", "501 5.5.4"),
    ("MAIL FROM:<> SIZE", "501 5.5.4"),
    ("MAIL FROM:<> SIZE=1k", "501 5.5.4"),
    ("MAIL FROM:<> SIZE=-1", "501 5.5.4"),
    (f"MAIL FROM:<> SIZE={'9' * 21}", "501 5.5.4"),
    ("MAIL FROM:<> SIZE=1 SIZE=2", "501 5.5.4"),
    ("MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4"),
    ("MAIL FROM:<> SMTPUTF8=1", "501 5.5.4"),
    ("MAIL FROM:<> RET=ALL", "501 5.5.4"),
    ("MAIL FROM:<> ENVID=a+b", "501 5.5.4"),
    ("MAIL FROM:<> ENVID=+0A", "501 5.5.4"),
    (f"MAIL FROM:<> ENVID={'a' * 101}", "501 5.5.4"),
    ("MAIL FROM:<> FOO=1", "555 5.5.4"),
    ("MAIL FROM:<> AUTH=<>", "555 5.5.4"),
    ("MAIL FROM:<> NOTIFY=NEVER", "555 5.5.4"),
    ("MAIL FROM:<jörg@example.test>", "553 5.6.7"),
    ("RCPT TO:<>", "501 5.1.3"),
    ("RCPT FROM:<a@b>", "501 5.5.4"),
    ("RCPT TO:<alice>", "501 5.1.3"),
    (f"RCPT TO:<{'a' * 65}@b>", "501 5.1.3"),
    ("RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
    ("RCPT TO:<a@b> NOTIFY=SUCCESS,SUCCESS", "501 5.5.4"),
    ("RCPT TO:<a@b> NOTIFY", "501 5.5.4"),
    ("RCPT TO:<a@b> ORCPT=a@b", "501 5.5.4"),
    ("RCPT TO:<a@b> ORCPT=rfc822;", "501 5.5.4"),
    ("RCPT TO:<a@b> ORCPT=rfc822;a=b", "501 5.5.4"),
    (r"RCPT TO:<a@b> ORCPT=utf-8;\x{D800}@b", "501 5.5.4"),
    (f"RCPT TO:<a@b> ORCPT=rfc822;{'a' * 500}", "501 5.5.4"),
    ("RCPT TO:<a@b> SIZE=1", "555 5.5.4"),
    ("DATA now", "501 5.5.4"),
    ("BDAT", "501 5.5.4"),
    ("BDAT -1", "501 5.5.4"),
    ("BDAT x LAST", "501 5.5.4"),
    ("BDAT 1 FIRST", "501 5.5.4"),
    ("RSET now", "501 5.5.4"),
    ("VRFY", "501 5.5.4"),
    ("QUIT now", "501 5.5.4"),
    ("STARTTLS now", "501 5.5.4"),
]


OF_USERS: list[tuple[str, dict[str, object]]] = [
    ("BODY=binarymime", {"body": "BINARYMIME"}),
    ("AUTH=<>", {"submitter": ""}),
    ("AUTH=e+3Dmc2@example.com", {"submitter": "e=mc2@example.com"}),
    ("HOLDFOR=0", {"hold_for_seconds": 0}),
    ("HOLDFOR=999999999", {"hold_for_seconds": 999_999_999}),
    ("HOLDUNTIL=2026-12-01T01:00:00+01:00", {"hold_until": datetime(2026, 12, 1, tzinfo=UTC)}),
    ("HOLDUNTIL=2026-12-01T00:00:00.5Z", {"hold_until": datetime(2026, 12, 1, 0, 0, 0, 500_000, tzinfo=UTC)}),
    ("BY=120;R", {"deliver_by": DeliverBy(120, "R")}),
    ("by=-5;nt", {"deliver_by": DeliverBy(-5, "N", is_traced=True)}),
    ("MT-PRIORITY=-9", {"priority": -9}),
    ("MT-PRIORITY=9", {"priority": 9}),
    ("REQUIRETLS", {"is_requiretls": True}),
    (
        "HOLDFOR=5 BY=60;N MT-PRIORITY=0 RET=FULL",
        {"hold_for_seconds": 5, "deliver_by": DeliverBy(60, "N"), "priority": 0, "ret": "FULL"},
    ),
]


@pytest.mark.parametrize(("parameters", "typed"), OF_USERS, ids=[line for line, _ in OF_USERS])
def test_parameters_of_users(parameters: str, typed: dict[str, object]) -> None:
    """What is offered to users is taken of them, and of nobody else."""
    line = f"MAIL FROM:<alice@example.test> {parameters}".encode()
    assert parse_command(line, EVERYTHING) == mail(**typed)
    with pytest.raises(CommandError) as caught:
        parse_command(line)
    assert caught.value.reply.code in (501, 555)


@pytest.mark.parametrize(
    "parameter",
    [
        "AUTH=a+2", "AUTH", "HOLDFOR", "HOLDFOR=", "HOLDFOR=+1", "HOLDFOR=1.5", "HOLDFOR=1 HOLDUNTIL=2026-12-01T00:00:00Z",
        "HOLDUNTIL", "HOLDUNTIL=2026-12-01", "HOLDUNTIL=2026-12-01T00:00:00", "HOLDUNTIL=2026-02-30T00:00:00Z",
        "HOLDUNTIL=2026-12-01T24:00:00Z", "HOLDUNTIL=0001-01-01T00:00:00+23:59", "HOLDUNTIL=2026-12-01t00:00:00z",
        "BY", "BY=1", "BY=1;X", "BY=1;NX", "BY=0;R", "BY=-1;R", "BY=1234567890;N", "MT-PRIORITY=+1", "MT-PRIORITY=10",
        "MT-PRIORITY=\u0661", "REQUIRETLS=", "REQUIRETLS=x", "BINARYMIME",
    ],
)  # fmt: skip
def test_bad_parameters_of_users(parameter: str) -> None:
    """A value that breaks its grammar is refused."""
    with pytest.raises(CommandError) as caught:
        parse_command(f"MAIL FROM:<alice@example.test> {parameter}".encode(), EVERYTHING)
    assert caught.value.reply.code in (501, 553, 555)


@pytest.mark.parametrize(("line", "command"), TAKEN, ids=[line for line, _ in TAKEN])
def test_takes(line: str, command: Command) -> None:
    """The line is this command."""
    assert parse_command(line.encode()) == command


@pytest.mark.parametrize(("line", "start"), REFUSED, ids=[repr(line)[:60] for line, _ in REFUSED])
def test_refuses(line: str, start: str) -> None:
    """The line is refused with this reply, whose text does not repeat the line's argument."""
    with pytest.raises(CommandError) as caught:
        parse_command(line.encode())
    octets = caught.value.reply.octets.decode()
    assert octets.startswith(start)
    assert "example" not in octets


def test_refuses_what_is_no_utf8() -> None:
    """Octets that are no UTF-8 are a syntax error, not an exception."""
    with pytest.raises(CommandError) as caught:
        parse_command(b"MAIL FROM:<j\xf6rg@example.test> SMTPUTF8")
    assert caught.value.reply.code == 500


_WORDS = st.sampled_from(
    [b"MAIL FROM:", b"RCPT TO:", b"<", b">", b"@", b".", b'"', b"\\", b"[", b"]", b"IPv6:", b":", b",", b" ", b"SIZE=", b"a",
     b"ORCPT=", b"utf-8;", b"\\x{", b"}", b"+2B", b"NOTIFY=", b"SMTPUTF8", b"BDAT ", b"9" * 30, b" LAST", b"EHLO ", b"-",
     b"HOLDFOR=", b"HOLDUNTIL=", b"2026-12-01T00:00:00Z", b"BY=", b";R", b"MT-PRIORITY=", b"AUTH=<>", b"REQUIRETLS", b"AUTH ",
     "ö".encode(), b"\xff", b"\0", b"\r", b"Postmaster"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=200), st.lists(_WORDS, max_size=30).map(b"".join)))
@example(b"MAIL FROM:<" + b"a-" * 1000)
@example(b"MAIL FROM:<a@" + b"a-" * 1000)
@example(b'MAIL FROM:<"' + b"\\a" * 1000)
def test_any_octets_are_a_command_or_a_refusal(octets: bytes) -> None:
    """Whatever the line, it is a command or has a reply with an enhanced status code."""
    outcome: Command | Reply
    try:
        outcome = parse_command(octets, EVERYTHING)
    except CommandError as error:
        outcome = error.reply
    if isinstance(outcome, Reply):
        assert outcome.code >= 500
        assert outcome.enhanced is not None
    else:
        assert isinstance(outcome, Command)


_LOCAL = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@given(_LOCAL, st.sampled_from(["example.test", "a-b.c", "[192.0.2.1]", "[IPv6:2001:db8::1]"]))
def test_a_printed_address_reads_back(local_part: str, domain: str) -> None:
    """Any printable local part survives quoting: what we print in a path parses to the same address."""
    address = AddrSpec(local_part, domain)
    command = parse_command(f"MAIL FROM:<{address}>".encode())
    assert isinstance(command, Mail)
    assert command.reverse_path == address

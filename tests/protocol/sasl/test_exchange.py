"""PLAIN and LOGIN: messages taken apart; and base64 lines as the protocols carry them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import sasl


def test_plain_gives_the_three_strings() -> None:
    """A PLAIN message holds authorization identity, authentication identity and password, in UTF-8."""
    credentials = sasl.parse_plain("bob@example.test\0älice@example.test\0pässword".encode())
    assert (credentials.authzid, credentials.authcid) == ("bob@example.test", "älice@example.test")
    assert credentials.password == "pässword"
    assert not credentials.acts_as_itself


@pytest.mark.parametrize("authzid", ["", "alice@example.test", "ALICE@EXAMPLE.TEST"])
def test_plain_acts_as_itself(authzid: str) -> None:
    """An absent authorization identity, or the same login in any case, is the user itself."""
    assert sasl.parse_plain(f"{authzid}\0Alice@Example.Test\0secret".encode()).acts_as_itself


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"alice",
        b"\0alice",
        b"\0alice\0",
        b"\0\0secret",
        b"\0alice\0secret\0",
        b"\0alice\0sec\0ret",
        b"\0al\xffice\0secret",
    ],
)
def test_plain_refuses_other_messages(octets: bytes) -> None:
    """A missing or empty string, a fourth string or bad UTF-8 is a grammar error."""
    with pytest.raises(sasl.SaslError):
        sasl.parse_plain(octets)


def test_plain_without_initial_response_asks_for_it() -> None:
    """The client speaks first: without an initial response the server sends an empty challenge."""
    exchange = sasl.mechanism(b"plain")
    assert exchange is not None
    assert exchange.step(None) == sasl.Challenge(b"")
    assert exchange.step(b"\0alice\0secret") == sasl.Credentials("", "alice", "secret")


def test_login_asks_twice() -> None:
    """LOGIN asks for the name, then for the password; an initial response is the name."""
    exchange = sasl.mechanism(b"login")
    assert exchange is not None
    assert exchange.step(None) == sasl.Challenge(b"Username:")
    assert exchange.step("älice".encode()) == sasl.Challenge(b"Password:")
    assert exchange.step(b"secret") == sasl.Credentials("", "älice", "secret")
    shorter = sasl.mechanism(b"LOGIN")
    assert shorter is not None
    assert shorter.step(b"alice") == sasl.Challenge(b"Password:")


@pytest.mark.parametrize("response", [b"", b"al\0ice", b"al\xffice"])
def test_login_refuses_other_answers(response: bytes) -> None:
    """Nothing, NUL or bad UTF-8 is a grammar error, for the name and for the password."""
    exchange = sasl.mechanism(b"LOGIN")
    assert exchange is not None
    with pytest.raises(sasl.SaslError):
        exchange.step(response)
    exchange.step(b"alice")
    with pytest.raises(sasl.SaslError):
        exchange.step(response)


def test_clients_of_passwords() -> None:
    """The clients say what the servers take; what they do not expect they refuse."""
    plain = sasl.PlainClient("älice", "secret", authzid="bob")
    assert sasl.parse_plain(plain.respond(None)) == sasl.Credentials("bob", "älice", "secret")
    assert plain.respond(b"") == plain.respond(None)
    with pytest.raises(sasl.SaslError):
        plain.respond(b"what?")
    login = sasl.LoginClient("alice", "secret")
    with pytest.raises(sasl.SaslError):
        login.respond(None)
    assert [login.respond(b"User Name"), login.respond(b"Password")] == [b"alice", b"secret"]
    with pytest.raises(sasl.SaslError):
        login.respond(b"Once more")


def test_unknown_mechanism() -> None:
    """A mechanism that we do not serve has no exchange."""
    assert sasl.mechanism(b"CRAM-MD5") is None
    assert sasl.mechanism(b"SCRAM-SHA-256-PLUS", nonce="0123456789abcdef") is None  # there is nothing to bind to


def test_the_password_is_in_no_repr() -> None:
    """Credentials can be logged by accident without giving the password away."""
    assert "hunter2" not in repr(sasl.parse_plain(b"\0alice\0hunter2"))


def test_initial_response() -> None:
    """On the command line "=" is the empty response; elsewhere it is no base64."""
    assert sasl.decode_initial(b"=") == b""
    assert sasl.decode_initial(b"AGFsaWNlAHNlY3JldA==") == b"\0alice\0secret"
    with pytest.raises(sasl.SaslError):
        sasl.decode_response(b"=")


def test_cancellation() -> None:
    """The line "*" cancels the exchange and is told apart from an error."""
    with pytest.raises(sasl.CancelledError):
        sasl.decode_response(b"*")


@pytest.mark.parametrize(
    "line", [b"AGFs aWNl", b"AGFsaWNlAHNlY3JldA", b"AGFsaWNlAHNlY3JldA==AA", b"\xff\xfe", b"AGFs\r"]
)
def test_loose_base64_is_refused(line: bytes) -> None:
    """Spaces, missing padding, octets after the padding and other alphabets are no base64 (RFC 4648 §3)."""
    with pytest.raises(sasl.SaslError):
        sasl.decode_response(line)


@given(st.binary())
def test_any_octets_give_credentials_or_an_error(octets: bytes) -> None:
    """No input raises anything but SaslError."""
    for parse in (sasl.parse_plain, sasl.decode_response, sasl.decode_initial):
        try:
            result = parse(octets)
        except sasl.SaslError:
            continue
        assert isinstance(result, bytes | sasl.Credentials)


@given(st.sampled_from(sasl.MECHANISMS), st.lists(st.binary(max_size=60), max_size=4))
def test_any_responses_end_in_a_step_or_an_error(name: bytes, responses: list[bytes]) -> None:
    """Whatever a client answers, a mechanism gives a step or raises SaslError."""
    exchange = sasl.mechanism(name, nonce="0123456789abcdef", bindings={"tls-exporter": b"x"})
    assert exchange is not None
    for response in responses:
        try:
            step = exchange.step(response)
        except sasl.SaslError:
            return
        assert isinstance(step, sasl.Step)


@given(st.binary())
def test_challenges_read_back(octets: bytes) -> None:
    """What goes out after "+ " is plain base64 of the challenge."""
    assert base64.b64decode(sasl.encode_challenge(sasl.Challenge(octets)), validate=True) == octets

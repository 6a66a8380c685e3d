"""OAUTHBEARER and XOAUTH2 messages."""

import json

import pytest

from protocol import sasl
from protocol.sasl.oauth import OauthBearer, Xoauth2

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def test_the_example_of_the_rfc() -> None:
    """The message of RFC 7628 §4.1 is a token and who to act as."""
    message = (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    assert OauthBearer().step(message) == sasl.Token("user@example.com", TOKEN)
    theirs = sasl.OauthBearerClient(TOKEN, authzid="user@example.com", host="server.example.com", port=143)
    assert theirs.respond(None) == message


def test_googles_example() -> None:
    """The message that Google documents is a user and a token."""
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    message = f"user=someuser@example.com\x01auth=Bearer {token}\x01\x01".encode()
    assert Xoauth2().step(message) == sasl.Token("someuser@example.com", token)
    assert sasl.Xoauth2Client("someuser@example.com", token).respond(None) == message


@pytest.mark.parametrize(
    "message",
    [
        b"n,,\x01auth=Bearer abc\x01\x01",
        b"y,,\x01auth=bearer  abc\x01\x01",
        b"n,,\x01AUTH=BEARER abc\x01mode=x\x01\x01",
    ],
)
def test_tokens_without_a_user(message: bytes) -> None:
    """Who to act as may be left out; names and the scheme have any case."""
    assert OauthBearer().step(message) == sasl.Token("", "abc")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,\x01auth=Bearer abc\x01\x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth=Bearer a\xe4\x01\x01",
        b"n,,\x01auth=Bearer abc\x01auth=Bearer abc\x01\x01",
        b"n,,\x01host\x01auth=Bearer abc\x01\x01",
        b"n,,\x01h0st=x\x01auth=Bearer abc\x01\x01",
        b"n,,\x01host=x\x01\x01",
        b"p=tls-exporter,,\x01auth=Bearer abc\x01\x01",
        b"n\x01auth=Bearer abc\x01\x01",
        b"n,user,\x01auth=Bearer abc\x01\x01",
        b"n,,x\x01auth=Bearer abc\x01\x01",
        b"n,a=us\xffer,\x01auth=Bearer abc\x01\x01",
    ],
)
def test_bearer_messages_that_are_none(message: bytes) -> None:
    """Another frame, another scheme, no token or two, or characters that may not be there are refused."""
    with pytest.raises(sasl.SaslError):
        OauthBearer().step(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"auth=Bearer abc\x01\x01",
        b"user=\x01auth=Bearer abc\x01\x01",
        b"user=a\x01auth=Bearer abc\x01",
        b"user=a\0\x01auth=Bearer abc\x01\x01",
        b"user=a\xff\x01auth=Bearer abc\x01\x01",
        b"user=a\x01\x01",
    ],
)
def test_xoauth2_messages_that_are_none(message: bytes) -> None:
    """No user, no token or another frame are refused."""
    with pytest.raises(sasl.SaslError):
        Xoauth2().step(message)


def test_refusals() -> None:
    """A refused token is answered in JSON, which the client keeps and acknowledges."""
    refusal = OauthBearer().refusal("mail", "https://login.example.org/.well-known/openid-configuration").octets
    assert json.loads(refusal)["status"] == "invalid_token"
    assert json.loads(OauthBearer().refusal().octets) == {"status": "invalid_token"}
    theirs = sasl.OauthBearerClient(TOKEN)
    assert theirs.respond(refusal) == b"\x01"
    assert theirs.refusal == refusal
    older = sasl.Xoauth2Client("alice", TOKEN)
    assert older.respond(Xoauth2().refusal("mail").octets) == b""
    assert json.loads(older.refusal) == {"status": "401", "schemes": "bearer", "scope": "mail"}


def test_tokens_are_in_no_repr() -> None:
    """A token can be logged by accident without being given away."""
    assert TOKEN not in repr(OauthBearer().step(f"n,,\x01auth=Bearer {TOKEN}\x01\x01".encode()))


def test_they_ask_for_the_message() -> None:
    """Without an initial response the server sends an empty challenge."""
    assert OauthBearer().step(None) == Xoauth2().step(None) == sasl.Challenge(b"")

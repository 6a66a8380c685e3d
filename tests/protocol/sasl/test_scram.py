"""SCRAM: the example of RFC 7677, channel binding, names, and everything a client must not say."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import sasl
from protocol.sasl.saslprep import saslprep
from protocol.sasl.scram import Scram

CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = sasl.derive("pencil", SALT, 4096)
OTHER = sasl.derive("another", SALT, 4096)
BINDINGS = {"tls-exporter": b"\x01\xffexported", "tls-server-end-point": b"hash"}


def server(*, is_plus: bool = False, bindings: dict[str, bytes] | None = None) -> Scram:
    return Scram(nonce=SERVER_NONCE, bindings=bindings or {}, is_plus=is_plus)


def client(
    password: str = "pencil", *, binding: tuple[str, bytes] | None = None, is_able: bool = False
) -> sasl.ScramClient:
    return sasl.ScramClient("user", password, nonce=CLIENT_NONCE, binding=binding, is_able=is_able)


def converse(ours: Scram, theirs: sasl.ScramClient, *keys: sasl.Keys) -> sasl.Proven:
    """Up to the proof, which both sides must find right."""
    asked = ours.step(theirs.respond(None))
    assert isinstance(asked, sasl.Lookup)
    challenge = ours.supply(SALT, 4096, keys or (PENCIL.keys,))
    proven = ours.step(theirs.respond(challenge.octets))
    assert isinstance(proven, sasl.Proven)
    assert theirs.respond(proven.server_final) == b""
    assert theirs.is_verified
    return proven


def test_the_example_of_the_rfc() -> None:
    """Both sides say, octet for octet, what RFC 7677 §3 has them say."""
    ours, theirs = server(), client()
    first = theirs.respond(None)
    assert first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert ours.step(first) == sasl.Lookup("", "user")
    challenge = ours.supply(SALT, 4096, [PENCIL.keys])
    assert challenge.octets == (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = theirs.respond(challenge.octets)
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    proven = ours.step(final)
    assert proven == sasl.Proven("", "user", 0, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert not theirs.is_verified
    assert theirs.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert theirs.is_verified


def test_any_of_several_passwords() -> None:
    """A proof for any of the keys is taken, and the server shows that it knows that very one."""
    keys = [OTHER.keys, PENCIL.keys, OTHER.keys]
    assert converse(server(), client(), *keys).index == 1


@pytest.mark.parametrize("binding", BINDINGS.items())
def test_channel_binding(binding: tuple[str, bytes]) -> None:
    """-PLUS takes a proof that is bound to this channel, by any of the offered types."""
    converse(server(is_plus=True, bindings=BINDINGS), client(binding=binding))


@pytest.mark.parametrize(
    ("is_plus", "theirs", "reason"),
    [
        (True, client(binding=("tls-exporter", b"another channel")), "channel bindings or nonces do not match"),
        (True, client(binding=("tls-unique", b"x")), "unsupported channel binding type"),
        (True, client(), "expected channel binding"),
        (True, client(is_able=True), "expected channel binding"),
        (False, client(binding=("tls-exporter", b"x")), "channel binding belongs to the -PLUS mechanism"),
        (False, client(is_able=True), "server does support channel binding"),
    ],
)
def test_channel_binding_that_fails(is_plus: bool, theirs: sasl.ScramClient, reason: str) -> None:
    """Another channel, an unknown type, none at all, or a client that was made to believe that there is no -PLUS."""
    with pytest.raises(sasl.SaslError, match=reason):
        converse(server(is_plus=is_plus, bindings=BINDINGS), theirs)


def test_a_client_that_could_bind_where_nothing_is_offered() -> None:
    """The flag "y" is right when the server does not offer -PLUS."""
    converse(server(), client(is_able=True))


def test_a_wrong_password() -> None:
    """A proof for none of the keys is none, and so is one of another length."""
    with pytest.raises(sasl.ProofError, match="invalid proof"):
        converse(server(), client("Pencil"))
    for proof in (b"", b"AAAA", base64.b64encode(bytes(33))):
        ours = server()
        ours.step(b"n,,n=user,r=" + CLIENT_NONCE.encode())
        ours.supply(SALT, 4096, [PENCIL.keys])
        with pytest.raises(sasl.ProofError):
            ours.step(f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=".encode() + proof)


@pytest.mark.parametrize("nonce", [CLIENT_NONCE, SERVER_NONCE, CLIENT_NONCE + SERVER_NONCE + "x", ""])
def test_another_nonce(nonce: str) -> None:
    """The final message repeats both nonces, or it is an old one."""
    ours = server()
    ours.step(b"n,,n=user,r=" + CLIENT_NONCE.encode())
    ours.supply(SALT, 4096, [PENCIL.keys])
    with pytest.raises(sasl.ProofError):
        ours.step(f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode())


@given(st.text(min_size=1).filter(lambda name: "\0" not in name), st.text().filter(lambda name: "\0" not in name))
@example("a,b=c", "=2C,=3D")
def test_names_go_through(name: str, authzid: str) -> None:
    """Names with any characters arrive as they are, "," and "=" too (RFC 5802 §5.1)."""
    ours = server()
    asked = ours.step(sasl.ScramClient(name, "x", nonce=CLIENT_NONCE, authzid=authzid).respond(None))
    assert asked == sasl.Lookup(authzid, name)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"x,,n=user,r=abc",
        b"n,user,n=user,r=abc",
        b"n,a=,n=user,r=abc",
        b"n,a=us=er,n=user,r=abc",
        b"p,,n=user,r=abc",
        b"p=,,n=user,r=abc",
        b"p=tls unique,,n=user,r=abc",
        b"n,,m=new,n=user,r=abc",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=us\xffer,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=a\xe4b",
        b"n,,n=user,r=abc,x",
        b"n,,n=user,r=abc,x=",
        b"n,,r=abc,n=user",
    ],
)
def test_first_messages_that_are_none(message: bytes) -> None:
    """A missing or misplaced attribute, a mandatory extension, or a character that may not be there is refused."""
    with pytest.raises(sasl.SaslError):
        server().step(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"p=AAAA",
        b"c=biws,p=AAAA",
        b"r=abc,c=biws,p=AAAA",
        b"c=biws,r=abc",
        b"c=biws,r=abc,p=A",
        b"c=b!ws,r=abc,p=AAAA",
        b"c=biws,r=abc,x,p=AAAA",
        b"c=biws,r=abc,p=AAAA,x=y",
    ],
)
def test_final_messages_that_are_none(message: bytes) -> None:
    """A missing or misplaced attribute, or what is no base64, is refused."""
    ours = server()
    ours.step(b"n,,n=user,r=" + CLIENT_NONCE.encode())
    ours.supply(SALT, 4096, [PENCIL.keys])
    with pytest.raises(sasl.SaslError):
        ours.step(message)


def test_extensions_are_passed_over() -> None:
    """Optional extensions change nothing but what is signed (RFC 5802 §5.1)."""
    ours = server()
    assert ours.step(b"n,,n=user,r=abcdef,x=y") == sasl.Lookup("", "user")


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=abc,s=AAAA,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4095",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=99999999",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=x",
        b"r=rOprNGfwEbeRWgbNEkqOx,i=4096,s=AAAA",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=A,i=4096",
    ],
)
def test_clients_do_not_go_along_with_anything(server_first: bytes) -> None:
    """A client gives no proof for another nonce, for too few iterations, or for more than it can compute."""
    theirs = client()
    theirs.respond(None)
    with pytest.raises(sasl.SaslError):
        theirs.respond(server_first)


@pytest.mark.parametrize("server_final", [b"e=other-error", b"v=AAAA", b"", b"v=!"])
def test_clients_check_the_server(server_final: bytes) -> None:
    """A server that does not know the verifier is not believed."""
    theirs = client()
    theirs.respond(None)
    theirs.respond(b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    if server_final:
        with pytest.raises(sasl.SaslError):
            theirs.respond(server_final)
    assert not theirs.is_verified


def test_nonces_are_random_enough() -> None:
    """A short nonce, or one with characters that may not be there, is a bug of the caller."""
    for nonce in ("", "short", "with,comma,in,the,middle", "with blank in the middle"):
        with pytest.raises(ValueError, match="nonce"):
            Scram(nonce=nonce, bindings={}, is_plus=False)


def test_verifiers_are_stored_as_text() -> None:
    """A verifier reads back from its text, whose form PostgreSQL and LDAP know too; it shows no key when printed."""
    assert str(PENCIL).startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert sasl.Verifier.parse(str(PENCIL)) == PENCIL
    assert base64.b64encode(PENCIL.keys.stored_key).decode() not in repr(PENCIL)


@pytest.mark.parametrize(
    "text", ["", "secret", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$1:A$AAAA:AAAA", "SCRAM-SHA-256$1:AAAA$AAAA"]
)
def test_texts_that_are_no_verifier(text: str) -> None:
    """A stored value of another form is a ValueError."""
    with pytest.raises(ValueError, match=r"verifier|base64"):
        sasl.Verifier.parse(text)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\U0001f511", "\U0001f511"),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    """The examples of RFC 4013 §3, blanks, Arabic, and a character that is newer than the tables."""
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "\u0627a\u0628", "\u200e\u00e4", "\ue000", "\ufffd"])
def test_saslprep_refuses(text: str) -> None:
    """Controls, mixed directions, private and replacement characters stand in no prepared string."""
    with pytest.raises(ValueError, match=r"character|directions"):
        saslprep(text)


def test_odd_passwords_still_make_keys() -> None:
    """A password that cannot be prepared is used as it is: its owner has it, and types it the same way again."""
    assert sasl.derive("\u0007", SALT, 1) == sasl.derive("\u0007", SALT, 1)
    assert sasl.derive("\u00aapencil", SALT, 1) == sasl.derive("apencil", SALT, 1)
    assert sasl.derive("\ud800", SALT, 1) != sasl.derive("x", SALT, 1)

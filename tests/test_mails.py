"""The mail corpus: complete, unchanged, and on the wire what a client would send."""

import hashlib

from tests.mails import CORPORA, MAILS, as_sent, has_bare_line_ends, name_of


def test_manifest_names_every_mail_with_its_octets() -> None:
    """MANIFEST.tsv and the files agree in path, size and SHA-256, so a checkout that converts line ends is found."""
    rows = (CORPORA / "MANIFEST.tsv").read_text("utf-8").splitlines()[1:]
    stored = {name_of(path): path.read_bytes() for path in MAILS}
    found = {name: (str(len(octets)), hashlib.sha256(octets).hexdigest()) for name, octets in stored.items()}
    assert {name: (size, digest) for name, size, digest, _ in (row.split("\t") for row in rows)} == found


def test_mails_go_on_the_wire_with_ended_lines() -> None:
    """Every stored mail of another origin ends its lines with CRLF when sent; ours goes as it is stored."""
    for path in MAILS:
        octets = as_sent(path)
        if path.suffix == ".raw":
            assert octets == path.read_bytes()
        else:
            assert octets.count(b"\n") == octets.count(b"\r\n")
            assert not octets or octets.endswith(b"\r\n")


def test_corpus_holds_the_odd_kinds() -> None:
    """The corpus holds what breaks mail servers: no octets, NUL, 8-bit, no header, bare line ends, mbox From lines."""
    sent = [as_sent(path) for path in MAILS]
    assert len(sent) >= 1000
    assert b"" in sent
    assert any(b"\0" in octets for octets in sent)
    assert sum(any(octet > 127 for octet in octets) for octets in sent) > 50
    assert sum(octets.startswith(b"From ") for octets in sent) >= 5
    assert any(octets.startswith(b"\r\n") for octets in sent)
    assert sum(map(has_bare_line_ends, sent)) >= 8

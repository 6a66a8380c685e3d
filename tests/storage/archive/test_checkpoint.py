"""Leaves, signed notes, key files and head copies: the parts of the evidence log that need no database."""

import base64
import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from storage.archive.checkpoint import Checkpoint, CheckpointError, Signer, key_id, open_note, verifier_key
from storage.archive.head import head_file, publish_head, read_head, tenants_with_head
from storage.archive.keys import KeyFileError, open_signer, public_keys_file, trusted_keys
from storage.archive.leaf import Kind, Leaf, commitment

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
ORIGIN = "mail.example.test/1/5f2c9a10"


def checkpoint(size: int = 5, *, number: int = 2, origin: str = ORIGIN) -> Checkpoint:
    """A checkpoint over made-up leaves."""
    return Checkpoint(origin, size, hashlib.sha256(b"%d" % size).digest(), number, 1_795_312_558_000)


def test_a_leaf_has_sixty_canonical_octets() -> None:
    """Version, kind, class, sequence number, time, size, commitment: big-endian, in this order, for ever."""
    leaf = Leaf(7, Kind.INCOMING, 1_795_312_558_123, 4096, bytes(range(32)), class_id=3)
    assert leaf.canonical().hex() == (
        "01" + "01" + "0003" + "0000000000000007" + "000001a200f7a02b" + "0000000000001000" + bytes(range(32)).hex()
    )
    assert leaf.hash() == hashlib.sha256(b"\x00" + leaf.canonical()).digest()


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf(-1, 1, 0, 0, bytes(32)),
        Leaf(0, 256, 0, 0, bytes(32)),
        Leaf(0, 1, -1, 0, bytes(32)),
        Leaf(0, 1, 0, 1 << 64, bytes(32)),
    ],
)
def test_a_leaf_out_of_range_is_refused(leaf: Leaf) -> None:
    """A value that does not fit its field is a ValueError, never a wrapped number."""
    with pytest.raises(ValueError, match="leaf "):
        leaf.canonical()


def test_a_commitment_binds_all_three() -> None:
    """Salt, message and envelope each change the commitment."""
    salt, message, envelope = bytes(32), hashlib.sha256(b"m").digest(), hashlib.sha256(b"e").digest()
    assert commitment(salt, message, envelope) == hashlib.sha256(salt + message + envelope).digest()
    other = hashlib.sha256(b"o").digest()
    assert len({commitment(*three) for three in ((salt, message, envelope), (other, message, envelope),
                                                 (salt, other, envelope), (salt, message, other))}) == 4  # fmt: skip


def test_a_signed_note_opens_as_it_was_signed() -> None:
    """A note carries the checkpoint in the C2SP form, and opens under the key that signed it."""
    note = SIGNER.sign(checkpoint())
    lines = note.split("\n")
    assert lines[:2] == [ORIGIN, "5"]
    assert base64.b64decode(lines[2]) == checkpoint().root
    assert lines[3:5] == ["postwerk 2 1795312558000", ""]
    dash, name, signature = lines[5].split(" ")
    assert (dash, name, lines[6:]) == ("—", ORIGIN, [""])
    assert len(base64.b64decode(signature)) == 4 + 64
    assert open_note(note, [OTHER.public_key, SIGNER.public_key]) == checkpoint()


def test_key_ids_are_as_c2sp_has_them() -> None:
    """The example of the signed-note specification: PeterNeumann's vkey names its own key id."""
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    name, identity, encoded = vkey.split("+", 2)
    public_key = base64.b64decode(encoded)[1:]
    assert key_id(name, public_key).hex() == identity
    assert verifier_key(name, public_key) == vkey


def test_a_signature_of_nobody_we_trust_does_not_count() -> None:
    """Another key, no key, or a signature under another name: the note does not open."""
    note = SIGNER.sign(checkpoint())
    for trusted in ([], [OTHER.public_key]):
        with pytest.raises(CheckpointError, match="no trusted key"):
            open_note(note, trusted)
    with pytest.raises(CheckpointError, match="no trusted key"):
        open_note(note.replace(f"— {ORIGIN}", "— witness.example"), [SIGNER.public_key])


def test_further_signatures_are_passed_over() -> None:
    """A witness's line before or after ours changes nothing."""
    note = SIGNER.sign(checkpoint())
    witness = f"— witness.example {base64.b64encode(bytes(76)).decode()}\n"
    body, _, ours = note.partition("\n\n")
    assert open_note(note + witness, [SIGNER.public_key]) == checkpoint()
    assert open_note(f"{body}\n\n{witness}{ours}", [SIGNER.public_key]) == checkpoint()


@pytest.mark.parametrize("at", range(len(SIGNER.sign(checkpoint()))))
def test_no_octet_of_a_note_can_be_changed(at: int) -> None:
    """Whatever character is changed or taken out, the note opens no more."""
    note = SIGNER.sign(checkpoint())
    for forged in (note[:at] + ("A" if note[at] != "A" else "B") + note[at + 1 :], note[:at] + note[at + 1 :]):
        with pytest.raises(CheckpointError):
            open_note(forged, [SIGNER.public_key])


@given(st.text(max_size=200) | st.text(alphabet="\n—+/= 019aA", max_size=80).map(lambda text: f"{ORIGIN}\n{text}"))
def test_whatever_is_opened_is_a_checkpoint_or_an_error(note: str) -> None:
    """Any text gives CheckpointError, never another exception."""
    with pytest.raises(CheckpointError):
        open_note(note, [SIGNER.public_key])


def test_a_key_is_made_once(state: Path) -> None:
    """The first use makes the key, readable by its owner alone; every later use has the same."""
    key_file = state / "keys" / "archive.key"
    with ThreadPoolExecutor(8) as threads:
        signers = list(threads.map(lambda _: open_signer(key_file), range(8)))
    assert len({signer.public_key for signer in signers}) == 1
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert set(trusted_keys(key_file)) == {signers[0].public_key}
    assert {path.name for path in key_file.parent.iterdir()} == {"archive.key", "archive.pub"}


def test_earlier_keys_stay_trusted(state: Path) -> None:
    """After a change of key what the old one signed still verifies."""
    key_file = state / "archive.key"
    old = open_signer(key_file)
    key_file.unlink()
    new = open_signer(key_file)
    assert trusted_keys(key_file) == (old.public_key, new.public_key)
    assert open_note(old.sign(checkpoint()), trusted_keys(key_file)) == checkpoint()


def test_unusable_key_files_are_errors(state: Path) -> None:
    """A key that others can read, a short one, a directory, and a malformed list of public keys are refused by name."""
    key_file = state / "archive.key"
    open_signer(key_file)
    key_file.chmod(0o640)
    with pytest.raises(KeyFileError, match="mode 0600"):
        open_signer(key_file)
    key_file.write_bytes(b"short")
    key_file.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a readable key"):
        open_signer(key_file)
    public_keys_file(key_file).write_text("ed25519 AAAA\n")
    with pytest.raises(KeyFileError, match="line 1"):
        trusted_keys(key_file)
    (state / "file").touch()
    with pytest.raises(KeyFileError, match="cannot be created"):
        open_signer(state / "file" / "archive.key")
    assert trusted_keys(state / "nothing.key") == ()


def test_a_head_copy_only_goes_forward(state: Path) -> None:
    """A newer checkpoint of the same log replaces the copy; an older one, another log's, or a damaged copy is left alone."""
    directory, trusted = state / "archive", (SIGNER.public_key,)
    assert read_head(directory, 1) is None
    assert tenants_with_head(directory) == []
    notes = [SIGNER.sign(checkpoint(size, number=size)) for size in (3, 5)]
    assert publish_head(directory, 1, notes[0], trusted)
    assert publish_head(directory, 1, notes[1], trusted)
    assert read_head(directory, 1) == notes[1]
    assert not publish_head(directory, 1, notes[0], trusted)
    assert not publish_head(directory, 1, SIGNER.sign(checkpoint(9, origin="another/1/0")), trusted)
    assert read_head(directory, 1) == notes[1]
    head_file(directory, 1).write_text("damaged")
    assert not publish_head(directory, 1, notes[1], trusted)
    assert read_head(directory, 1) == "damaged"
    assert publish_head(directory, 20, notes[0], trusted)
    assert tenants_with_head(directory) == [1, 20]

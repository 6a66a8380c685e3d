"""The Merkle tree against the published vectors, against the RFC's own recursion, and against forged proofs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.archive.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

# The reference tree of the Certificate Transparency implementations (RFC 6962 hashing).
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(f"leaf {index}".encode()) for index in range(300)]
EVERY_SIZE = 64
SAMPLED_SIZES = [65, 96, 127, 128, 129, 191, 200, 255, 256, 257, 299, 300]


def merkle_tree_hash(entries: list[bytes]) -> bytes:
    """MTH written down as RFC 9162 §2.1.1 has it."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    middle = max(1 << bit for bit in range(32) if 1 << bit < len(entries))
    return node_hash(merkle_tree_hash(entries[:middle]), merkle_tree_hash(entries[middle:]))


def test_empty_tree_has_the_hash_of_nothing() -> None:
    """The root of the empty tree is the hash of the empty string."""
    assert Frontier().root() == EMPTY_ROOT == merkle_tree_hash([])
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size: int) -> None:
    """Every prefix of the reference tree has the published root."""
    assert root_hash([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size - 1]
    assert merkle_tree_hash(ENTRIES[:size]).hex() == ROOTS[size - 1]


def test_inclusion_proofs_are_the_published_ones() -> None:
    """The first and the sixth leaf of the reference tree have the published paths."""
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert [node.hex() for node in inclusion_proof(0, leaves)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [node.hex() for node in inclusion_proof(5, leaves)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_consistency_proofs_are_the_published_ones() -> None:
    """From six to eight leaves of the reference tree leads the published path."""
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert consistency_proof(1, leaves[:1]) == []
    assert [node.hex() for node in consistency_proof(6, leaves)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_frontier_grows_as_the_recursion_says() -> None:
    """Appending one by one gives the root of the whole at every size, and survives packing at every size."""
    frontier = Frontier()
    entries: list[bytes] = []
    for index in range(300):
        entries.append(f"leaf {index}".encode())
        frontier.append(LEAVES[index])
        if index < 130 or index in SAMPLED_SIZES:
            assert frontier.root() == merkle_tree_hash(entries)
        frontier = Frontier.unpack(frontier.size, frontier.pack())
    assert frontier.size == 300


@pytest.mark.parametrize(("size", "octets"), [(0, b"x" * 32), (1, b""), (3, b"x" * 32), (3, b"x" * 63), (4, b"x" * 64)])
def test_frontier_refuses_an_edge_of_another_size(size: int, octets: bytes) -> None:
    """Size and edge must belong together."""
    with pytest.raises(ValueError, match="the edge of a tree"):
        Frontier.unpack(size, octets)


@pytest.mark.parametrize("size", [*range(1, EVERY_SIZE + 1), *SAMPLED_SIZES])
def test_every_inclusion_proof_verifies_and_no_other(size: int) -> None:
    """Each leaf's path verifies at its index alone, for its hash, size and root alone, and not when changed or cut."""
    leaves = LEAVES[:size]
    root = root_hash(leaves)
    for index in range(0, size, 1 if size <= EVERY_SIZE else 7):
        proof = inclusion_proof(index, leaves)
        assert len(proof) <= size.bit_length()
        assert verify_inclusion(index, size, leaves[index], proof, root)
        assert not verify_inclusion(index, size, LEAVES[-1] if index != 299 else LEAVES[0], proof, root)
        assert not verify_inclusion(index, size, leaves[index], proof, EMPTY_ROOT)
        assert not verify_inclusion(index, size, leaves[index], [*proof, root], root)
        assert not verify_inclusion(index + size, size, leaves[index], proof, root)
        if size > 1:
            assert not verify_inclusion((index + 1) % size, size, leaves[index], proof, root)
            assert not verify_inclusion(index, size, leaves[index], proof[:-1], root)
            assert not verify_inclusion(index, size, leaves[index], [*proof[:-1], EMPTY_ROOT], root)


@pytest.mark.parametrize("new_size", [*range(1, EVERY_SIZE + 1), *SAMPLED_SIZES])
def test_every_consistency_proof_verifies_and_no_other(new_size: int) -> None:
    """Each prefix proves itself, and neither another prefix, nor another tree, nor a changed or cut proof does."""
    leaves = LEAVES[:new_size]
    new_root = root_hash(leaves)
    for old_size in range(1, new_size + 1, 1 if new_size <= EVERY_SIZE else 7):
        old_root = root_hash(LEAVES[:old_size])
        proof = consistency_proof(old_size, leaves)
        assert verify_consistency(old_size, new_size, old_root, new_root, proof)
        assert not verify_consistency(old_size, new_size, EMPTY_ROOT, new_root, proof)
        assert not verify_consistency(old_size, new_size, old_root, EMPTY_ROOT, proof)
        assert not verify_consistency(old_size, new_size, old_root, new_root, [*proof, new_root])
        if old_size < new_size:
            forked = root_hash([LEAVES[299 - index] for index in range(old_size)])
            assert not verify_consistency(old_size, new_size, forked, new_root, proof)
            assert not verify_consistency(old_size, new_size, old_root, new_root, proof[:-1])
            assert not verify_consistency(old_size, new_size, old_root, new_root, [*proof[:-1], EMPTY_ROOT])
            assert not verify_consistency(new_size, old_size, new_root, old_root, proof)


def test_empty_tree_is_a_prefix_of_all() -> None:
    """No proof is needed, and none accepted, from the empty tree."""
    assert verify_consistency(0, 5, EMPTY_ROOT, root_hash(LEAVES[:5]), [])
    assert not verify_consistency(0, 5, LEAVES[0], root_hash(LEAVES[:5]), [])
    assert not verify_consistency(0, 5, EMPTY_ROOT, root_hash(LEAVES[:5]), [LEAVES[0]])


@pytest.mark.parametrize(("make", "number"), [(inclusion_proof, 3), (inclusion_proof, -1), (consistency_proof, 4)])
def test_proofs_outside_the_tree_are_refused(make: object, number: int) -> None:
    """A proof for what the tree does not hold is a ValueError."""
    assert callable(make)
    with pytest.raises(ValueError, match=r"^no "):
        make(number, LEAVES[:3])


@given(
    st.integers(-2, 400),
    st.integers(-2, 400),
    st.binary(min_size=32, max_size=32),
    st.lists(st.sampled_from(LEAVES[:9]), max_size=12),
)
def test_verification_answers_whatever_it_is_given(first: int, second: int, root: bytes, proof: list[bytes]) -> None:
    """No input raises, and made-up proofs never verify against an unrelated root."""
    assert not verify_inclusion(first, second, LEAVES[0], proof, root)
    assert not verify_consistency(first, second, EMPTY_ROOT[::-1], root, proof)

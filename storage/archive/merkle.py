"""The Merkle tree of RFC 9162 §2.1: hashes, the growing right edge, inclusion and consistency proofs.

Works on 32-octet hashes in memory and never touches a database, a clock or a key. Proofs made here verify with any
implementation of RFC 9162 or RFC 6962 (the two define the same tree).
"""

import hashlib
from collections.abc import Iterable, Sequence

HASH_OCTETS = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # MTH({}), RFC 9162 §2.1.1


def leaf_hash(octets: bytes) -> bytes:
    """HASH(0x00 || d), RFC 9162 §2.1.1. The prefix keeps a leaf from ever being taken for a node."""
    return hashlib.sha256(b"\x00" + octets).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """HASH(0x01 || left || right), RFC 9162 §2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: the roots of its complete subtrees, largest first. All that appending needs.

    A tree of n leaves has one such root for every 1 in the binary form of n, so the edge stays below 64 hashes.
    """

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        self.size = size
        self._edge = list(edge)
        if len(self._edge) != size.bit_count() or any(len(one) != HASH_OCTETS for one in self._edge):
            raise ValueError(
                f"the edge of a tree of {size} leaves has {size.bit_count()} hashes of {HASH_OCTETS} octets"
            )

    @classmethod
    def unpack(cls, size: int, octets: bytes) -> "Frontier":
        """Read what pack() gave. Raises ValueError where size and length do not belong together."""
        return cls(size, [octets[start : start + HASH_OCTETS] for start in range(0, len(octets), HASH_OCTETS)])

    def pack(self) -> bytes:
        """The hashes of the edge, largest subtree first, one after the other."""
        return b"".join(self._edge)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Amortised: one node hash."""
        carry, size = leaf, self.size
        while size & 1:
            carry = node_hash(self._edge.pop(), carry)
            size >>= 1
        self._edge.append(carry)
        self.size += 1

    def root(self) -> bytes:
        """MTH(D[size]), RFC 9162 §2.1.1."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            root = node_hash(left, root)
        return root

    def __repr__(self) -> str:
        return f"<Frontier of {self.size} leaves, root {self.root().hex()[:16]}>"


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """The root over all these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _split(size: int) -> int:
    """The largest power of two smaller than size, RFC 9162 §2.1.1."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(index, leaves), RFC 9162 §2.1.3.1: the hashes that lead from one leaf to the root, nearest first."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*inclusion_proof(index, leaves[:middle]), root_hash(leaves[middle:])]
    return [*inclusion_proof(index - middle, leaves[middle:]), root_hash(leaves[:middle])]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that the leaf hash stands at the index in the tree of that size and root.

    RFC 9162 §2.1.3.2, step by step. Any input gives an answer, never an exception.
    """
    if not 0 <= index < size:
        return False
    first, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and result == root


def consistency_proof(old_size: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(old_size, leaves), RFC 9162 §2.1.4.1: the first old_size leaves are a prefix of all."""
    if not 0 < old_size <= len(leaves):
        raise ValueError(f"no proof from {old_size} to {len(leaves)} leaves")
    return _subproof(old_size, leaves, is_complete=True)


def _subproof(old_size: int, leaves: Sequence[bytes], *, is_complete: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if is_complete else [root_hash(leaves)]
    middle = _split(len(leaves))
    if old_size <= middle:
        return [*_subproof(old_size, leaves[:middle], is_complete=is_complete), root_hash(leaves[middle:])]
    return [*_subproof(old_size - middle, leaves[middle:], is_complete=False), root_hash(leaves[:middle])]


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the old tree is a prefix of the new one. RFC 9162 §2.1.4.2, step by step.

    Any input gives an answer, never an exception. An empty old tree is a prefix of every tree, without a proof.
    """
    if not 0 <= old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # a complete old tree is itself the first node of the path
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_result = new_result = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_result, new_result = node_hash(node, old_result), node_hash(node, new_result)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_result = node_hash(new_result, node)
        first, last = first >> 1, last >> 1
    return last == 0 and old_result == old_root and new_result == new_root

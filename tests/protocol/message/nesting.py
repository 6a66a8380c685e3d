"""What holds of the offsets in every tree of parts."""

from collections.abc import Iterator

from protocol.message.mime import Part


def all_parts(part: Part) -> Iterator[Part]:
    """The part and all within it, in the order of the message."""
    yield part
    for child in part.children:
        yield from all_parts(child)


def assert_nested(root: Part, size_octets: int) -> None:
    """Parts lie within the body of the one around them, in order, each header before its body."""
    assert (root.header_start, root.end) == (0, size_octets)
    for part in all_parts(root):
        assert 0 <= part.header_start <= part.body_start <= part.end
        edge = part.body_start
        for child in part.children:
            assert edge <= child.header_start
            assert child.end <= part.end
            edge = child.end

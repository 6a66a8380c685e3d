"""Variables: RFC 5229, with the modifiers of other extensions."""

from collections.abc import Callable, Sequence
from urllib.parse import quote

from filters.sieve.building import Builder, match_type
from filters.sieve.patterns import quote_regex, quote_wildcards
from filters.sieve.state import Check, Op, Run
from protocol.sieve.validation import Node

Modify = Callable[[str], str]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _encode_url(text: str) -> str:
    """RFC 5435 §6: everything but unreserved characters is %-encoded."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


_MODIFIERS: tuple[tuple[str, Modify], ...] = (  # the highest precedence first, RFC 5229 §4.1
    ("lower", str.lower),
    ("upper", str.upper),
    ("lowerfirst", _lower_first),
    ("upperfirst", _upper_first),
    ("quotewildcard", quote_wildcards),
    ("quoteregex", quote_regex),
    ("encodeurl", _encode_url),
    ("length", lambda text: str(len(text))),
)
_LENGTHENING = (quote_wildcards, quote_regex, _encode_url)  # character by character: the limit must not cut in one


def modifiers(node: Node, limit: int) -> Modify:
    """The modifiers of `set` and `extracttext`, in the order of their precedence; the limit is that of the value."""
    chosen = tuple(modify for name, modify in _MODIFIERS if name in node.options)

    def apply(text: str) -> str:
        for modify in chosen:
            text = _lengthened(modify, text, limit) if modify in _LENGTHENING else modify(text)
        return text

    return apply


def _lengthened(modify: Modify, text: str, limit: int) -> str:
    """As much of the text as the limit allows, each character changed."""
    fits, most = 0, min(len(text), limit)
    while fits < most:
        middle = (fits + most + 1) // 2
        if len(modify(text[:middle]).encode("utf-8", "surrogateescape")) <= limit:
            fits = middle
        else:
            most = middle - 1
    return modify(text[:fits])


def assign(builder: Builder, node: Node) -> Op:
    """`set`, RFC 5229 §4."""
    store, value, modify = (
        builder.target(node.positional[0]),
        builder.text(node.positional[1]),
        modifiers(node, builder.limits.variable_octets),
    )
    work_of = 4 if any(name in node.options for name, each in _MODIFIERS if each in _LENGTHENING) else 64
    builder.assigned.add((builder.constant(node.positional[0]) or "").lower())

    def execute(run: Run) -> None:
        text = value(run)
        run.spend(len(text) // work_of)
        store(run, modify(text))

    return execute


def string(builder: Builder, node: Node) -> Check:
    """`string`, RFC 5229 §5; :count counts the strings that are not empty."""
    sources, matches = builder.texts(node.positional[0]), builder.matcher(node, node.positional[1])
    is_count = match_type(node) == "count"

    def check(run: Run) -> bool:
        found: Sequence[str] = sources(run)
        return matches(run, [text for text in found if text] if is_count else found)

    return check


COMMANDS = {"set": assign}
TESTS = {"string": string}

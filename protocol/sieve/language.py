"""The base language of RFC 5228, and with the tables of extensions.py the whole of it."""

from protocol.sieve import extensions
from protocol.sieve.matching import ADDRESS_PART, COMPARE, COPY, FLAGS, INDEX, MATCH, MIME, MIME_ANY, TARGET
from protocol.sieve.signatures import Kind, Language, Option, Signature, table

S, L, N = Kind.STRING, Kind.STRINGS, Kind.NUMBER

_COMMANDS = table(
    Signature("require", (("capabilities", L),)),
    Signature("if", subtests="one", has_block=True),
    Signature("elsif", subtests="one", has_block=True),
    Signature("else", has_block=True),
    Signature("stop"),
    Signature("keep", options=(FLAGS,)),
    Signature("discard"),
    Signature("fileinto", (("mailbox", S),), (FLAGS, COPY, *TARGET), needs=("fileinto",)),
    Signature(
        "redirect",
        (("address", S),),
        (
            COPY,
            Option("list", needs="extlists"),
            Option("notify", S, needs="redirect-dsn"),
            Option("ret", S, needs="redirect-dsn"),
        ),
    ),
)
_TESTS = table(
    Signature("true", is_test=True),
    Signature("false", is_test=True),
    Signature("not", is_test=True, subtests="one"),
    Signature("anyof", is_test=True, subtests="list"),
    Signature("allof", is_test=True, subtests="list"),
    Signature("exists", (("header names", L),), MIME_ANY, is_test=True),
    Signature("header", (("header names", L), ("key list", L)), (*COMPARE, *MATCH, *INDEX, *MIME), is_test=True),
    Signature(
        "address",
        (("header list", L), ("key list", L)),
        (*COMPARE, *MATCH, *ADDRESS_PART, *INDEX, *MIME_ANY),
        is_test=True,
    ),
    Signature(
        "envelope",
        (("envelope part", L), ("key list", L)),
        (*COMPARE, *MATCH, *ADDRESS_PART),
        needs=("envelope",),
        is_test=True,
    ),
    Signature(
        "size",
        (("limit", N),),
        (Option("over", group="direction"), Option("under", group="direction")),
        is_test=True,
        required_group="direction",
    ),
)

CORE = frozenset({"comparator-i;octet", "comparator-i;ascii-casemap", "fileinto", "envelope", "encoded-character"})
CAPABILITIES: dict[str, tuple[str, ...]] = dict.fromkeys(CORE, ()) | extensions.CAPABILITIES
"""What `require` may name, and what each brings along."""

LANGUAGE = Language(_COMMANDS | extensions.COMMANDS, _TESTS | extensions.TESTS, CAPABILITIES)


def join(one: Language, other: Language) -> Language:
    """Both together; what both have is that of the other."""
    commands, tests = {**one.commands, **other.commands}, {**one.tests, **other.tests}
    return Language(commands, tests, {**one.capabilities, **other.capabilities})

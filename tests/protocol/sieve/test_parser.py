"""The grammar of scripts: what is read, what is refused, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.sieve.errors import SieveError
from protocol.sieve.language import CAPABILITIES, LANGUAGE
from protocol.sieve.parser import NESTING_LIMIT, parse
from protocol.sieve.syntax import Number, Place, String, StringList, Tag
from protocol.sieve.validation import Node, Validator

# Pieces that scripts are made of, so that random scripts get far.
PIECES = st.sampled_from(
    (
        *(
            "require",
            "if",
            "elsif",
            "else",
            "not",
            "anyof",
            "allof",
            "header",
            "address",
            "keep",
            "stop",
            "fileinto",
            "set",
        ),
        *(
            '"a"',
            '["a", "b"]',
            '"${a}"',
            "1",
            "2K",
            "99999999999999999999G",
            ":is",
            ":contains",
            ":comparator",
            ":flags",
        ),
        *(
            "(",
            ")",
            "{",
            "}",
            ";",
            ",",
            "[",
            "]",
            '"',
            "/*",
            "*/",
            "# x\n",
            "text:\nx\n.\n",
            "\n",
            "foreverypart",
            "ihave",
        ),
        *(
            'require "fileinto";',
            'require ["variables", "mime", "foreverypart", "ihave"];',
            "if true { keep; }",
            "vacation",
        ),
    )
)
SCRIPTS = st.lists(PIECES, max_size=40).map(" ".join)


def faults(source: str) -> list[str]:
    """What is wrong with a script, each with its place."""
    try:
        commands = parse(source)
    except SieveError as error:
        return [str(fault) for fault in error.faults]
    validator = Validator(LANGUAGE, CAPABILITIES.keys())
    validator.nodes(commands)
    return [str(fault) for fault in validator.faults]


def nodes(source: str) -> tuple[Node, ...]:
    validator = Validator(LANGUAGE, CAPABILITIES.keys())
    found = validator.nodes(parse(source))
    assert validator.faults == []
    return found


def test_a_command_with_everything() -> None:
    """Names lose their case, numbers get their quantifier, and everything knows its place."""
    (command,) = parse('\n  IF Header :Is ["a", "b\\"c\\d"] "x" { size 2k; }')
    assert (command.name, command.place) == ("if", Place(2, 3))
    assert command.tests[0].arguments == (
        Tag(Place(2, 13), "is"),
        StringList(Place(2, 17), (String(Place(2, 18), "a"), String(Place(2, 23), 'b"cd'))),
        String(Place(2, 33), "x"),
    )
    assert command.block is not None
    assert command.block[0].arguments == (Number(Place(2, 44), 2048),)


def test_multi_line_strings() -> None:
    """A text: ends with a line of one dot, loses the dots that were stuffed, and has CRLF whatever the script has."""
    (command,) = parse("reject text: # why\r\n..one\n.two\r\n\n.\r\n;")
    assert command.arguments == (String(Place(1, 8), ".one\r\n.two\r\n\r\n"),)


def test_comments_are_white_space() -> None:
    """Both kinds of comments may stand between any two tokens."""
    (command,) = parse("/* a ; * / */ keep # b ;\n ; /**/")
    assert command.name == "keep"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("keep", "line 1, column 5: missing semicolon after keep command"),
        ("keep }", "line 1, column 6: missing semicolon after keep command"),
        ("stop;\n  42;", "line 2, column 3: expected a command, found number"),
        ('keep "x;', "line 1, column 6: string without its closing quote"),
        ("keep text:\nx\n", "line 1, column 6: text: without its final line of one dot"),
        ("/* keep;", "line 1, column 1: comment without its end"),
        ('if header ["a" "b"] {}', "line 1, column 16: expected ',' or ']' in the list, found string"),
        ("if header [] {}", "line 1, column 12: expected a string in the list, found ']'"),
        ("if anyof (true,) {}", "line 1, column 16: expected a test, found ')'"),
        ("if true { keep;", "line 1, column 16: missing '}' of the block of line 1"),
        ("if size :over 18446744073709551616 {}", "line 1, column 15: number is larger than 18446744073709551615"),
        ("keep; }", "line 1, column 7: unexpected '}'"),
        ("keep $;", "line 1, column 6: unexpected '$'"),
        ('keep "a\0b";', "line 1, column 6: NUL is not allowed in a string"),
        ("keep 1x;", "line 1, column 6: unexpected '1x'"),
    ],
)
def test_syntax_errors(source: str, fault: str) -> None:
    """What is wrong is told with line and column."""
    assert fault in faults(source)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("foo;", "line 1, column 1: unknown command 'foo'"),
        ("if foo {}", "line 1, column 4: unknown test 'foo'"),
        ('fileinto "a";', 'line 1, column 1: unknown fileinto command (it needs require "fileinto")'),
        ('require "foo";', 'line 1, column 9: unknown capability "foo"'),
        ('keep; require "fileinto";', "line 1, column 7: require commands must stand at the top of the script"),
        ("else { keep; }", "line 1, column 1: else command must follow an if or elsif command"),
        ("if true { } keep; else { }", "line 1, column 19: else command must follow an if or elsif command"),
        ("header;", "line 1, column 1: attempted to use test 'header' as command"),
        ("if keep {}", "line 1, column 4: attempted to use command 'keep' as test"),
        ('if header "a" {}', "line 1, column 4: the header test requires 2 positional argument(s), but 1 is specified"),
        (
            'if header 1 "a" {}',
            "line 1, column 11: the header test expects a string list as argument 1 (header names), but a number was found",
        ),
        ("if true;", "line 1, column 1: the if command requires a block"),
        ("keep {}", "line 1, column 1: the keep command accepts no block"),
        ("if not (true) {}", "line 1, column 4: the not test requires a single test"),
        ("if anyof true {}", "line 1, column 4: the anyof test requires a list of tests in parentheses"),
        ("if size 1 {}", "line 1, column 4: the size test requires :over or :under"),
        (
            'if header :is :contains "a" "b" {}',
            "line 1, column 15: unexpected tagged argument ':contains' for the header test: ':is' is there already",
        ),
        ('keep\nstop;', "line 1, column 1: missing semicolon after keep command or superfluous 'stop'"),
    ],
)  # fmt: skip
def test_what_is_not_valid(source: str, fault: str) -> None:
    """Commands and tests that do not exist, are not required, or have other arguments."""
    assert fault in faults(source)


def test_all_faults_are_told() -> None:
    """After an error the rest of the script is looked at too."""
    assert [text.partition(":")[0] for text in faults('foo;\nkeep "x";\nif bar {\n  fileinto 1;\n}\n')] == [
        "line 1, column 1",
        "line 2, column 1",
        "line 3, column 4",
        "line 4, column 3",
    ]


def test_ihave_brings_what_is_there_and_drops_what_is_not() -> None:
    """A block behind an ihave for something unknown may hold anything, RFC 5463 §4; a known one needs no require."""
    known, unknown, either = nodes(
        'require "ihave"; if ihave "fileinto" { fileinto "a"; } if ihave "foo" { foo :bar; } '
        'if not ihave "foo" { keep; } else { foo; }'
    )[:3]
    assert (known.is_dropped, [node.name for node in known.block]) == (False, ["fileinto"])
    assert (unknown.is_dropped, unknown.block) == (True, ())
    assert either.name == "if"


def test_encoded_characters() -> None:
    """${hex:} and ${unicode:} are read when encoded-character is required; octets that make no UTF-8 stay what they are."""
    source = 'redirect "${hex:40}${unicode: 00e4 F6}${hex:c3 9f}${hex:ff}${hex:xx}";'
    (command,) = nodes('require "encoded-character"; ' + source)
    (argument,) = command.positional
    assert isinstance(argument, String)
    assert argument.text == "@äöß\udcff${hex:xx}"
    (command,) = nodes(source)
    assert isinstance(command.positional[0], String)
    assert command.positional[0].text.startswith("${hex:40}")


@pytest.mark.parametrize("opening", ["if true {", "if not "])
def test_nesting_is_limited(opening: str) -> None:
    """Blocks and tests within each other have a limit, and nothing overflows."""
    assert "nested deeper" in faults(opening * (NESTING_LIMIT + 2) + "true { keep; }")[0]
    assert "nested deeper" in faults(opening * 100_000)[0]


def test_size_and_encoding() -> None:
    """A script that is too long or no UTF-8 is refused; a byte order mark is not seen."""
    with pytest.raises(SieveError, match="longer than 10 octets"):
        parse(b"keep; keep; keep;", script_limit=10)
    with pytest.raises(SieveError, match="line 2, column 8: script is not UTF-8"):
        parse('keep;\nkeep "ä'.encode() + b"\xff")
    assert len(parse(b"\xef\xbb\xbfkeep;")) == 1


@given(st.one_of(st.binary(), SCRIPTS.map(str.encode)))
def test_anything_is_read_or_refused_with_its_place(octets: bytes) -> None:
    """Any octets are a script, or faults with places that lie within."""
    lines = octets.decode("utf-8", "replace").split("\n")
    try:
        commands = parse(octets)
    except SieveError as error:
        places = [(fault.line, fault.column) for fault in error.faults]
    else:
        validator = Validator(LANGUAGE, CAPABILITIES.keys())
        validator.nodes(commands)
        places = [(fault.line, fault.column) for fault in validator.faults]
    for line, column in places:
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1

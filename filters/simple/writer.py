"""Writes a Sieve script: lines, blocks, strings, and the `require` that they need."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_INDENT = "    "
_SPECIAL = re.compile(r'(["\\])')
_LINE_END = re.compile(r"\r\n|\r|\n")
_DOLLAR = "dollar"  # the variable that holds one


class Writer:
    """A script that grows. With `has_variables`, texts that look like variables stay texts."""

    def __init__(self, *, has_variables: bool = False) -> None:
        self._lines: list[str] = []
        self._required: set[str] = {"variables"} if has_variables else set()
        self._has_variables = has_variables
        self._has_dollars = False
        self._depth = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return not self._lines

    def line(self, text: str) -> None:
        """One line, or several, at the depth of the block."""
        self._lines += [f"{_INDENT * self._depth}{line}".rstrip() for line in text.split("\n")]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is written within stands in braces. Behind another block `elsif` and `else` go on its last line."""
        continues = (
            head.startswith(("elsif ", "else")) and self._lines and self._lines[-1] == f"{_INDENT * self._depth}}}"
        )
        if continues:
            self._lines.pop()
        self.line(f"{'} ' if continues else ''}{head} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    def require(self, *capabilities: str) -> None:
        """The script needs these."""
        self._required.update(capabilities)

    def string(self, text: str) -> str:
        """A quoted string, RFC 5228 §2.4.2."""
        return '"' + _SPECIAL.sub(r"\\\1", self._plain(text)) + '"'

    def strings(self, texts: Sequence[str]) -> str:
        """A string list; of one text just that."""
        quoted = [self.string(text) for text in texts]
        return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"

    def long_string(self, head: str, text: str) -> None:
        """A command that ends with a text of several lines, RFC 5228 §2.4.2: `head text: … .`"""
        self.line(f"{head} text:")
        for line in _LINE_END.split(self._plain(text).rstrip()):
            self._lines.append(f".{line}" if line.startswith(".") else line)
        self._lines += [".", ";"]

    def script(self, comment: str) -> str:
        """The whole of it, with CRLF line ends."""
        head = (
            [f"# {comment}", f"require {self.strings(sorted(self._required))};"] if self._required else [f"# {comment}"]
        )
        if self._has_dollars:
            head.append(f'set "{_DOLLAR}" "$";')
        return "".join(f"{line}\r\n" for line in (*head, "", *self._lines))

    def _plain(self, text: str) -> str:
        """RFC 5229 §3: what stands for a variable is replaced once; a dollar that comes out of one begins none."""
        if not self._has_variables or "${" not in text:
            return text
        self._has_dollars = True
        return text.replace("${", f"${{{_DOLLAR}}}{{")


def list_of_tests(word: str, tests: Sequence[str]) -> str:
    """`allof (…)` or `anyof (…)` over several lines; of one test just that."""
    if len(tests) == 1:
        return tests[0]
    inner = ",\n".join(tests).replace("\n", f"\n{_INDENT}")
    return f"{word} (\n{_INDENT}{inner}\n)"

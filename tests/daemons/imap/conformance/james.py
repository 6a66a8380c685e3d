"""Apache James' protocol scripts (Apache-2.0): read, put into our names, and played against our service.

A script is `C:` lines and the `S:` lines that must answer them, which are Java regular expressions. They hold James' own
words ("CREATE completed."), its delimiter "." and its namespaces, and they list responses in James' order. What is
compared is therefore what a client acts on: the tagged status, response codes, and the untagged data, as values: lists
that have no order match in any, and what a pattern leaves open (`.*`, `\\d+`) is anything. Everything else is not looked at.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemons.imap.conformance.imaptest import String, Value, Variables, tokens, with_directives
from tests.daemons.imap.conformance.player import is_status, reply_of
from tests.daemons.imap.conversation import Client

_WILD = re.compile(r"\(\.\)\*|\(\?[^)]*\)|\(\.\+\)|\.\*|\.\+|\\d\+|\[\^\"\]\*")
_OPTIONAL = re.compile(r"\((?:\\.|[^()\\])*\)\?")
_LITERAL_END = re.compile(r"\{(\d+)\}\Z")
# The greeting, which scripts have at odd places; RECENT, which James tells again and we once (RFC 3501 §2.3.2);
# URLAUTH's code; how far James' own counter has come; what James can do.
_NOT_COMPARED = re.compile(r"\* (?:OK IMAP4rev1|\d+ RECENT|OK \[URLMECH|OK \[HIGHESTMODSEQ|CAPABILITY)")
_RESPONSE_START = re.compile(r"(?:\* |\+|[A-Za-z0-9]+ (?:OK|NO|BAD)\b)")
_OTHER, _OWN = "Other Users/boby@example.test", "alice@example.test"
_NAMES: tuple[tuple[str, str], ...] = (
    (r"#private\.imapuser\.|#private\.|#private(?=\")", ""),
    (r"\"?#user\.boby\.([^\s\")]+)\"?", rf'"{_OTHER}/\1"'),
    (r"\"?#user\.boby\"?", f'"{_OTHER}"'),
    (r"\"?user\.Boby\.([^\s\")]+)\"?", rf'"{_OTHER}/\1"'),
    (r"\"?user\.Boby\"?", f'"{_OTHER}/INBOX"'),
    (r"\buser\.imapuser\.", ""),
    (r"\buser\.imapuser\b", "INBOX"),
    (r"\bLOGIN imapuser(?:@domain)? password\b", f'LOGIN "{_OWN}" "$password"'),
    (r"\bimapuser\b", _OWN),
    (r"(?<![/\w])[Bb]oby\b(?!@)", "boby@example.test"),
)
_WITH_NAMES = re.compile(
    r"(?i)[^ ]+ (?:UID )?(?:CREATE|DELETE|RENAME|SELECT|EXAMINE|LIST|LSUB|STATUS|SUBSCRIBE|UNSUBSCRIBE|APPEND|COPY|MOVE|"
    r"SETACL|GETACL|DELETEACL|MYRIGHTS|LISTRIGHTS|GETQUOTAROOT|GETMETADATA|SETMETADATA)\b"
)
_DOTTED = re.compile(r"(?<![\[\d@.])\b([A-Za-z][\w-]*)\.(?=[\w%*\"-]|$)(?![A-Z]+[\])])")


@dataclass
class Exchange:
    """What the client sends at once, and the responses that must come."""

    line: int
    session: int
    sent: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)  # unescaped; "$" stands for anything


def read(path: Path) -> list[Exchange]:
    """The exchanges of a script."""
    exchanges = [Exchange(0, 1)]
    session = 1
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.startswith("SESSION: "):
            session = int(line.removeprefix("SESSION: "))
        elif line.startswith("C:"):
            if exchanges[-1].responses or exchanges[-1].session != session or not exchanges[-1].line:
                exchanges.append(Exchange(number, session))
            exchanges[-1].sent.append(line[3:])
        elif line.startswith("S:") and exchanges[-1].line:
            _add(exchanges[-1].responses, _unescaped(line[3:]))
    return exchanges[1:]


def _unescaped(pattern: str) -> str:
    """What a pattern stands for when each part it leaves open is "$"."""
    pattern = _OPTIONAL.sub("", pattern)
    pattern = _WILD.sub("\0", pattern)
    pattern = re.sub(r"\\(\\?[^\w\s]|\\)", r"\1", pattern)
    pattern = re.sub(r"\\\\?([A-Z*])", r"\\\1", pattern)
    return pattern.replace("$", "$$").replace("\0", "$")


def _add(responses: list[str], line: str) -> None:
    if responses and (not _RESPONSE_START.match(line) or _lacks_octets(responses[-1])):
        responses[-1] += "\r\n" + line
    else:
        responses.append(line)


def _lacks_octets(response: str) -> bool:
    """Whether the last literal of the response is not complete."""
    position = 0
    while found := re.search(r"\{(\d+)\}\r\n", response[position:]):
        position += found.end() + int(found[1])
        if position > len(response):
            return True
    return _LITERAL_END.search(response[position:]) is not None


def in_our_names(line: str, *, is_command: bool) -> str:
    """The line with our delimiter, namespaces and logins."""
    for pattern, ours in _NAMES:
        line = re.sub(pattern, ours, line)
    if not is_command or _WITH_NAMES.match(line):
        head, separator, rest = line.partition("\r\n")
        line = re.sub(r"(?<!@)example/test", "example.test", _DOTTED.sub(r"\1/", head)) + separator + rest
    return line.replace("@example/test", "@example.test")


def wanted(response: str) -> list[Value]:
    """The values of an expected untagged response, in the form imaptest's matching takes."""
    text = re.sub(r" ?\\Recent", "", in_our_names(response, is_command=False).removeprefix("* "))
    values = with_directives(tokens(text.encode("latin-1")))
    name = str(values[0]).lower() if values else ""
    code = str(values[1]).lower() if len(values) > 1 else ""
    for index, value in enumerate(values):
        if isinstance(value, list) and (name == "flags" or code == "[permanentflags"):
            values[index] = ["$!unordered", *value]
    if name in ("list", "lsub"):
        values[2] = "$"  # the delimiter
    if name == "myrights":
        values[2] = _rights(values[2])
    return values


def _rights(value: Value) -> str:
    """Rights in one order, without RFC 2086's c and d, which RFC 4314 §2.1.1 derives from others."""
    text = value if isinstance(value, str) else value.text if isinstance(value, String) else ""
    return "".join(sorted(set(text) - set("cd")))


def status_of(response: str) -> list[Value]:
    """Status and response code of an expected tagged or status response."""
    found = re.match(r"(OK|NO|BAD|BYE)(?: (\[[^\]]*\]))?", response)
    assert found is not None, response
    code = tokens(found[2].encode("latin-1")) if found[2] else []
    return [found[1], *(["$!unordered", *value] if isinstance(value, list) else value for value in code)]


class Player:
    """One run of one script. `differences` tells what did not come as the script says."""

    def __init__(self, clients: Mapping[int, Client], password: str) -> None:
        self._clients = clients
        self._password = password
        self.differences: list[str] = []

    async def play(self, exchanges: Iterable[Exchange]) -> None:
        """Send everything, whatever differs."""
        for exchange in exchanges:
            await self._exchange(exchange)

    async def _exchange(self, exchange: Exchange) -> None:
        client = self._clients[exchange.session]
        is_command = True
        for sent in exchange.sent:
            text = in_our_names(sent, is_command=True) if is_command else sent
            is_command = False
            client.write(text.replace("$password", self._password).encode("latin-1") + b"\r\n")
        tags = [response.partition(" ")[0] for response in exchange.responses if response[:1] not in "*+$"]
        got: list[list[Value]] = []
        if not tags:
            line = await client.line()
            if not line.startswith(b"+") or not exchange.responses[0].startswith("+"):
                self._differs(exchange, exchange.responses, line)
            return
        for tag in tags:
            for line in await client.until(tag.encode()):
                if not line:
                    self._differs(exchange, "an answer", "the connection ended")
                    return
                if line.startswith(b"* "):
                    reply = reply_of(line)
                    got.append(reply if reply[0] != "MYRIGHTS" else [*reply[:2], _rights(reply[2])])
                elif line.startswith(tag.encode() + b" "):
                    self._tagged(exchange, tag, line)
        self._untagged(exchange, got)

    def _tagged(self, exchange: Exchange, tag: str, line: bytes) -> None:
        answer = next(response for response in exchange.responses if response.startswith(tag + " "))
        if not Variables({}, lambda _: None).matches(
            status_of(answer.partition(" ")[2]), reply_of(line), is_prefix=True
        ):
            self._differs(exchange, answer, line)

    def _untagged(self, exchange: Exchange, got: list[list[Value]]) -> None:
        for response in exchange.responses:
            if not response.startswith("* ") or _NOT_COMPARED.match(response):
                continue
            text = response.removeprefix("* ")
            wish = status_of(text) if re.match(r"OK|NO|BAD|BYE", text) else wanted(response)
            variables = Variables({}, lambda _: None)
            if not any(variables.matches(wish, reply, is_prefix=is_status(reply)) for reply in got):
                self._differs(exchange, response, got)

    def _differs(self, exchange: Exchange, expected: object, got: object) -> None:
        self.differences.append(f"line {exchange.line}: {exchange.sent[0]!r}: expected {expected!r}, got {got!r}")

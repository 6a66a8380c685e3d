"""Apache James' protocol scripts (Apache-2.0): read, put into our names, and played against our service.

A script is `C:` lines and the `S:` lines that must answer them, which are Java regular expressions. They hold James' own
words ("CREATE completed."), its delimiter "." and its namespaces, and they list responses in James' order. What is
compared is therefore what a client acts on: the tagged status, response codes, and the untagged data, as values: lists
that have no order match in any, and what a pattern leaves open (`.*`, `\\d+`) is anything. Texts for people are not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemons.imap.conformance.imaptest import String, Value, tokens
from tests.daemons.imap.conformance.player import is_status, reply_of
from tests.daemons.imap.conversation import Client

OTHERS = {"boby": "boby@example.test", "diana": "diana@example.test"}
OWN = "alice@example.test"

_ANY = "\x7f"  # what a pattern leaves open
_PATTERN = re.compile(
    r"\((?:\\.|[^()\\])*\)\?"  # what may be left out
    r"|(?P<any>\(\.\)\*|\(\.\+\)|\.[*+]|\\[dw](?:\+|\{[\d,]+\})?|\[\^\"\]\*)"
    r"|\((?P<first>(?:\\.|[^()\\|])*)\|(?:\\.|[^()\\])*\)"  # alternatives, which differ in nothing but order
    r"|\\(?P<end>r\\\)\Z)"
    r"|\\(?P<escaped>.)"
)
_LITERAL_END = re.compile(r"\{(\d+)\}\Z")
_RESPONSE_START = re.compile(r"(?:\* |\+|[A-Za-z0-9]+ (?:OK|NO|BAD)\b)")
# The greeting, which scripts have at odd places; RECENT, which James tells again and we once (RFC 3501 §2.3.2); URLAUTH's
# code; how far James' own counter has come; texts in an untagged OK, which mean nothing.
_NOT_COMPARED = re.compile(rf"\* (?:[\d{_ANY}]+ RECENT|OK (?!\[)|OK \[URLMECH|OK \[HIGHESTMODSEQ)")
# What may come at any time (RFC 3501 §7), and nobody asked for.
_MAY_COME = frozenset(("EXISTS", "RECENT", "CAPABILITY"))
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\([^)]*\)|[^\s"]+')
# Which words of a command are names of mailboxes; the first word is its tag.
_ONE_NAME = (
    *("CREATE", "DELETE", "SELECT", "EXAMINE", "STATUS", "SUBSCRIBE", "UNSUBSCRIBE", "APPEND", "SETACL", "GETACL"),
    *("DELETEACL", "MYRIGHTS", "LISTRIGHTS", "GETQUOTAROOT", "GETMETADATA", "SETMETADATA"),
)
_NAMES_AT = {
    **dict.fromkeys(_ONE_NAME, (2,)),
    **dict.fromkeys(("LIST", "LSUB", "RENAME"), (2, 3)),
    **dict.fromkeys(("COPY", "MOVE", "REPLACE"), (3,)),
}
_PEOPLE_AT = {"SETACL": 3, "DELETEACL": 3, "LISTRIGHTS": 3}
_NAMED_RESPONSES = ("STATUS", "ACL", "MYRIGHTS", "LISTRIGHTS", "QUOTAROOT", "METADATA")


@dataclass
class Exchange:
    """What the client sends at once, and the responses that must come."""

    line: int
    session: int
    sent: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)  # without escapes


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
        elif line.startswith("S: ^"):
            continue  # what a response must not hold
        elif line.startswith("S:") and exchanges[-1].line:
            is_tagless = line.startswith("S: OK ") or line == "S: .*"  # in two scripts
            tag = exchanges[-1].sent[0].partition(" ")[0] if is_tagless else ""
            _add(exchanges[-1], f"{tag} {_unescaped(line[3:])}".lstrip() if tag else _unescaped(line[3:]))
    return exchanges[1:]


def _unescaped(pattern: str) -> str:
    """What a pattern stands for, with _ANY for each part that it leaves open."""

    def meaning(found: re.Match[str]) -> str:
        if found["any"]:
            return _ANY
        if found["end"]:
            return "\r)"
        if found["first"]:
            return _unescaped(found["first"])
        return found["escaped"] or ""

    return _PATTERN.sub(meaning, pattern)


def _add(exchange: Exchange, line: str) -> None:
    responses = exchange.responses
    is_tagged = line.startswith(
        exchange.sent[0].partition(" ")[0] + " OK "
    )  # ends a literal that is short of white space
    if responses and not is_tagged and (not _RESPONSE_START.match(line) or _lacks_octets(responses[-1])):
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


def our_name(name: str) -> str:
    """A mailbox name, or a pattern of LIST, with our delimiter and namespaces."""
    name = re.sub(r"\A(?:#private|user)\.imapuser\.|\A#private\.|\A#private\Z", "", name)
    if name == "user.imapuser":
        return "INBOX"
    if found := re.match(r"(?i)(?:#user|user)\.(boby|diana)(?:\.(.*))?\Z", name):
        inbox = "INBOX" if name.startswith("user.") else ""  # James' older scripts name a person's INBOX so
        rest = (found[2] or inbox).replace(".", "/")
        return f"Other Users/{OTHERS[found[1].lower()]}" + ("/" + rest if rest or found[2] == "" else "")
    if name.startswith("#user"):
        name = "Other Users" + name[5:]
    if found := re.match(r"(diana)\.(.*)", name):
        return f"{OTHERS[found[1]]}/{found[2]}"
    return name.replace(".", "/")


def our_person(name: str) -> str:
    """A login of ours for James' user."""
    return OWN if name == "imapuser" else OTHERS.get(name.lower(), name)


def our_command(line: str, password: str = "") -> str:
    """The command with our names and logins."""
    words = [found[0] for found in _WORD.finditer(line)]
    verbs = [word.upper() for word in words[1:2]]
    offset = 1 if verbs == ["UID"] else 0
    verb = words[1 + offset].upper() if len(words) > 1 + offset else ""
    if verb == "LOGIN" and words[2:3] and words[2].partition("@")[0] == "imapuser":
        return f'{words[0]} LOGIN "{OWN}" "{password if words[3] == "password" else words[3]}"'
    if verb == "LIST" and words[2].startswith("("):
        offset += 1
    places = {at + offset for at in _NAMES_AT.get(verb, ())}
    counter = iter(range(len(words)))

    def changed(found: re.Match[str]) -> str:
        at, word = next(counter), found[0]
        if at in places and not word.startswith(("{", "(")):
            name = our_name(word.strip('"'))
            return f'"{name}"' if word.startswith('"') or " " in name or not name else name
        return our_person(word) if at == _PEOPLE_AT.get(verb) else word

    return _WORD.sub(changed, line)


def wanted(response: str) -> list[Value]:
    """The values of an expected untagged response, in our names."""
    response = re.sub(rf"FETCH \({_ANY}\)? ?BODY", f"FETCH ({_ANY} BODY", response)
    if response.startswith("* METADATA"):  # whose patterns leave out closing quotes
        response = re.sub(rf"{_ANY} (?=/)", f'{_ANY}" ', response).replace(f"{_ANY})", f'{_ANY}")')
    if _lacks_octets(response):
        start = re.search(r"\{\d+\}\r\n", response)
        assert start is not None
        response = f"{response[: start.start()]}{{{len(response) - start.end() - 1}}}\r\n{response[start.end() :]}"
    values = tokens(response.removeprefix("* ").encode("latin-1"))
    name = str(values[0])
    place = 1 if name in _NAMED_RESPONSES else 3 if name in ("LIST", "LSUB") else 0
    if place:
        values[place] = String(our_name(text_of(values[place])))
    if name in ("LIST", "LSUB"):
        values[2] = _ANY  # the delimiter
    if name in ("ACL", "LISTRIGHTS"):
        values[2:] = [our_person(value) if isinstance(value, str) else value for value in values[2:]]
    return values


def text_of(value: Value) -> str:
    """The text of an atom or a string."""
    assert not isinstance(value, list), value
    return value if isinstance(value, str) else value.text


def status_of(response: str) -> list[Value]:
    """Status and response code of an expected tagged or status response."""
    if response == _ANY:
        return []
    found = re.match(r"(OK|NO|BAD|BYE)(?: (\[[^\]]*\]))?", response)
    assert found is not None, response
    code = re.sub(r"\[UIDVALIDITY \d+\]", f"[UIDVALIDITY {_ANY}]", found[2] or "")  # which number it is says nothing
    code = code.replace(f"FLAGS {_ANY}]", f"FLAGS ({_ANY})]")
    return [found[1], *tokens(code.encode("latin-1"))]


def matches(wish: Value, got: Value) -> bool:
    """Whether two values are the same, where the wished one says what it must be."""
    if wish in (_ANY, [_ANY]):
        return wish == _ANY or isinstance(got, list)
    if isinstance(wish, list) or isinstance(got, list):
        if not isinstance(wish, list) or not isinstance(got, list):
            return False
        is_parameters = (
            all(isinstance(value, String) for value in wish) and len(wish) % 2 == 0
        )  # of a body: in no order
        return _any_order(wish, got, 2) if is_parameters else all_match(wish, got)
    if isinstance(wish, String) and not wish.text and got == "NIL":
        return True  # a part that is not there has no text: either is an nstring for it (RFC 3501 §9)
    pattern = ".*".join(re.escape(part) for part in _unindented(text_of(wish)).split(_ANY))
    return re.fullmatch(pattern, _unindented(text_of(got)), re.IGNORECASE | re.DOTALL) is not None


def _unindented(text: str) -> str:
    """The text without white space at the begin of lines, which some scripts have lost."""
    return re.sub(r"(?m)^[ \t]+", "", text)


def all_match(wishes: Sequence[Value], got: Sequence[Value]) -> bool:
    """Whether lists match in order."""
    return len(wishes) == len(got) and all(matches(wish, one) for wish, one in zip(wishes, got, strict=True))


def _any_order(wishes: Sequence[Value], got: Sequence[Value], chain: int = 1) -> bool:
    """Whether lists match in any order of their chains."""
    if len(wishes) != len(got):
        return False
    remaining = [got[at : at + chain] for at in range(0, len(got), chain)]
    for at in range(0, len(wishes), chain):
        found = next((one for one in remaining if _chain_matches(wishes[at : at + chain], one)), None)
        if found is None:
            return False
        remaining.remove(found)
    return True


def _chain_matches(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    if wish[0] == got[0] == "FLAGS" and isinstance(wish[1], list) and isinstance(got[1], list):
        return wish[1] == [_ANY] or _any_order(_lasting(wish[1]), _lasting(got[1]))
    return all_match(wish, got)


def _lasting(flags: Sequence[Value]) -> list[Value]:
    """Flags but for \\Recent, which James gives to each session and we to one (RFC 3501 §2.3.2), and for \\*: keywords."""
    texts = [text_of(flag).rstrip(_ANY) for flag in flags]
    return [flag for flag in texts if flag not in ("\\Recent", "\\*")]


def _rights(value: Value) -> list[str]:
    """Rights in one order, without RFC 2086's c and d, which RFC 4314 §2.1.1 derives from others."""
    return sorted(set(text_of(value)) - set("cd"))


def _access_list(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    people = [
        {text_of(who): _rights(rights) for who, rights in zip(one[1::2], one[2::2], strict=True)} for one in (wish, got)
    ]
    return matches(wish[0], got[0]) and people[0] == people[1]


def _listed(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    """LIST and LSUB: attributes have no order, and what follows the name is read by its own rules."""
    return (
        isinstance(wish[0], list)
        and isinstance(got[0], list)
        and _any_order(wish[0], got[0])
        and all_match(wish[1:3], got[1:3])
    )


def _pairs(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    """A name or number, and a list of pairs."""
    one, other = wish[-1], got[-1]
    if not isinstance(one, list) or not isinstance(other, list):
        return all_match(wish, got)
    if one[:1] == [_ANY]:  # and whatever else
        other = [value for at in range(0, len(other), 2) if other[at] in one for value in other[at : at + 2]]
        one = one[1:]
    return all_match(wish[:-1], got[:-1]) and _any_order(one, other, 2)


def _flags(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    one, other = wish[0], got[0]
    return (
        isinstance(one, list)
        and isinstance(other, list)
        and (one == [_ANY] or _any_order(_lasting(one), _lasting(other)))
    )


def _my_rights(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    return matches(wish[0], got[0]) and _rights(wish[1]) == _rights(got[1])


def _every_one(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    """Capabilities: those that are looked for."""
    asked = {word for value in wish for word in text_of(value).split(_ANY) if word}
    return asked <= {text_of(value) for value in got}


_RULES: Mapping[str, Callable[[Sequence[Value], Sequence[Value]], bool]] = {
    "ACL": _access_list, "CAPABILITY": _every_one, "FLAGS": _flags, "LIST": _listed, "LSUB": _listed,
    "METADATA": _pairs, "MYRIGHTS": _my_rights, "QUOTA": _pairs, "SEARCH": _any_order, "STATUS": _pairs,
}  # fmt: skip


def reply_matches(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    """Whether an untagged response is the one that is wished."""
    if is_status(got) or is_status(wish):
        return is_status(wish) and _status_matches(wish, got)
    if got[1:2] == ["FETCH"] and wish[1:2] == ["FETCH"]:
        return matches(wish[0], got[0]) and (wish[2] == _ANY or _pairs(wish[2:], got[2:]))
    rule = _RULES.get(str(got[0]), all_match)
    return matches(wish[0], got[0]) and rule(wish[1:], got[1:])


def _status_matches(wish: Sequence[Value], got: Sequence[Value]) -> bool:
    """Status and code, as far as the wish has one; of flags in no order."""
    if len(got) < len(wish):
        return False
    if wish[1:2] == ["[PERMANENTFLAGS"] and got[1] == wish[1]:
        return _flags(wish[2:], got[2:])
    return all_match(wish, got[: len(wish)])


def gone(replies: Iterable[Sequence[Value]]) -> list[int]:
    """The messages that EXPUNGE responses take away, by their numbers before the first: each counts after the others."""
    numbers: list[int] = []
    for reply in replies:
        if reply[1:2] == ["EXPUNGE"]:
            number = int(text_of(reply[0]))
            for other in sorted(numbers):
                number += other <= number
            numbers.append(number)
    return sorted(numbers)


class Player:
    """One run of one script. `differences` tells what did not come as the script says, by its lines."""

    def __init__(self, clients: Mapping[int, Client], password: str) -> None:
        self._clients = clients
        self._password = password
        self.differences: dict[int, str] = {}

    async def play(self, exchanges: Iterable[Exchange]) -> None:
        """Send everything, whatever differs."""
        for exchange in exchanges:
            await self._exchange(exchange)

    async def _exchange(self, exchange: Exchange) -> None:
        client = self._clients[exchange.session]
        client.write(our_command(exchange.sent[0], self._password).encode("latin-1") + b"\r\n")
        for sent in exchange.sent[1:]:
            client.write(sent.encode("latin-1") + b"\r\n")
        tags = [response.partition(" ")[0] for response in exchange.responses if response[:1] not in f"*+{_ANY}"]
        got: list[list[Value]] = []
        if not tags:
            if not exchange.responses[0].startswith("+"):
                client.write(b"conformance NOOP\r\n")  # whether the connection ends or not, something comes
            line = await client.line()
            head = exchange.responses[0].encode()[: 1 if exchange.responses[0].startswith("+") else 5]
            if not line.startswith(head):
                self._differs(exchange, exchange.responses, line)
            return
        for tag in tags:
            for line in await client.until(tag.encode()):
                if not line:
                    self._differs(exchange, "an answer", "the connection ended")
                    return
                if line.startswith(b"* "):
                    got.append(reply_of(line))
                elif line.startswith(tag.encode() + b" "):
                    self._tagged(exchange, tag, line)
        self._untagged(exchange, got)

    def _tagged(self, exchange: Exchange, tag: str, line: bytes) -> None:
        answer = next(response for response in exchange.responses if response.startswith(tag + " "))
        if not _status_matches(status_of(answer.partition(" ")[2]), reply_of(line)):
            self._differs(exchange, answer, line)

    def _untagged(self, exchange: Exchange, got: list[list[Value]]) -> None:
        """Each response that is expected must come, and no others but those that may come at any time."""
        wishes = [
            status_of(response[2:]) if re.match(r"\* (?:OK|NO|BAD|BYE)", response) else wanted(response)
            for response in exchange.responses
            if response.startswith("* ") and not _NOT_COMPARED.match(response)
        ]
        if gone(wishes) != gone(got):
            self._differs(exchange, f"these to go: {gone(wishes)}", gone(got))
        remaining = [reply for reply in got if reply[1:2] != ["EXPUNGE"]]
        for wish in wishes:
            if wish[1:2] == ["EXPUNGE"]:
                continue
            found = next((reply for reply in remaining if reply_matches(wish, reply)), None)
            if found is None:
                self._differs(exchange, wish, got)
            elif not is_status(found):
                remaining.remove(found)
        for reply in remaining:
            if not is_status(reply) and not _MAY_COME.intersection(str(value) for value in reply[:2]):
                self._differs(exchange, "nothing of the kind", reply)

    def _differs(self, exchange: Exchange, expected: object, got: object) -> None:
        text = f"line {exchange.line}: {exchange.sent[0]!r}: expected {expected!r}, got {got!r}"
        self.differences[exchange.line] = "\n".join(filter(None, (self.differences.get(exchange.line), text)))

"""Address lists of header fields, RFC 5322 §3.4 with the obsolete forms of §4.4: octets in, addresses out.

Never fails and never drops a field silently: what cannot be read becomes an address that says so. Where the RFC
leaves open what broken input means, we answer as Dovecot does (MISSING_MAILBOX, MISSING_DOMAIN, SYNTAX_ERROR,
INVALID_ROUTE), because clients and their users know those words.
"""

import re
from contextlib import suppress
from typing import NamedTuple

MAX_ADDRESSES = 20_000  # of one field; the rest is ignored, so that a header of commas costs bounded memory

MISSING_MAILBOX = b"MISSING_MAILBOX"
MISSING_DOMAIN = b"MISSING_DOMAIN"
SYNTAX_ERROR = b"SYNTAX_ERROR"
INVALID_ROUTE = b"INVALID_ROUTE"


class Address(NamedTuple):
    """One address as RFC 3501 §7.4.2 counts them: a group is a start (host None) and an end (all None)."""

    name: bytes | None  # display name or, failing that, the last comment; still with its encoded words
    route: bytes | None  # obsolete source route, "@one,@two"
    mailbox: bytes | None  # local part, or the name of a group that starts here
    host: bytes | None


GROUP_END = Address(None, None, None, None)

_ATEXT = rb"[!#-'*+\-/-9=?A-Z^-~\x80-\xff]"
_ATOM = re.compile(_ATEXT + rb"+")
_WORDS = re.compile(rb"%(w)s*+(?:[ \t]++%(w)s++)*+" % {b"w": rb"[!#-'*+\--9=?A-Z^-~\x80-\xff]"})
_WHITE = re.compile(rb"[ \t\r\n]*")
# The forms that nearly all mail uses, whole with the comma behind them; anything else takes the long way.
_PLAIN = re.compile(
    rb'(?:(?:"([^"\\\r\n]*)"|(%(word)s(?: (?:%(word)s|\.))*))? ?<(%(dot)s)@(%(dot)s)>|(%(dot)s)@(%(dot)s))'
    rb"[ \t]*(?:,[ \t\r\n]*|\Z)"
    % {b"word": _ATEXT + rb"[!#-'*+\--9=?A-Z^-~\x80-\xff]*", b"dot": _ATEXT + rb"+(?:\." + _ATEXT + rb"+)*"}
)


def parse(value: bytes) -> list[Address]:
    """Parse the body of an address field, unfolded or not. Never raises."""
    parser = _Parser(value)
    return parser.address_list()


class _SyntaxError(Exception):
    """A production does not match; the cursor stays where it stopped, as the next try decides what that means."""


class _Parser:
    """A cursor over one field body. Each method is one production and leaves the cursor behind it."""

    __slots__ = ("addresses", "at", "comment", "end", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0
        self.end = len(octets)
        self.comment = b""  # the last comment seen: the name of `user@host (Name)`
        self.addresses: list[Address] = []

    def address_list(self) -> list[Address]:
        """address-list = (address *("," address)) / obs-addr-list."""
        addresses = self.addresses
        try:
            if not self.skip_cfws():
                return addresses
        except _SyntaxError:
            return addresses
        while len(addresses) < MAX_ADDRESSES:
            plain = _PLAIN.match(self.octets, self.at)
            if plain is not None:
                quoted, words, mailbox, host, bare_mailbox, bare_host = plain.groups()
                addresses.append(Address(quoted or words or None, None, mailbox or bare_mailbox, host or bare_host))
                self.at = plain.end()
                if self.at == self.end:
                    return addresses
                if self.octets[self.at] != 40:  # "(": a comment may stand between comma and address
                    continue
            else:
                self.address()
                if self.peek() != b",":
                    return addresses
                self.at += 1
            try:
                if not self.skip_cfws():
                    return addresses
            except _SyntaxError:
                self.add(None, None, None, None)
                return addresses
        return addresses

    def address(self) -> None:
        """address = mailbox / group."""
        start = self.at
        with suppress(_SyntaxError):
            name = self.phrase()
            if self.peek() == b":":
                self.group(name)
                return
        self.at = start
        self.mailbox()

    def group(self, name: bytes) -> None:
        """group = display-name ":" [group-list] ";" [CFWS]; a missing ";" ends the group at the end of the field."""
        self.at += 1
        self.addresses.append(Address(None, None, name, None))
        try:
            while self.skip_cfws() and self.peek() != b";" and len(self.addresses) < MAX_ADDRESSES:
                if self.mailbox_in_group():
                    break
        except _SyntaxError:
            self.at = self.end
        if self.peek() == b";":
            self.at += 1
            self.skip_cfws_or_end()
        self.addresses.append(GROUP_END)

    def mailbox_in_group(self) -> bool:
        """Read one mailbox; True when no comma follows, so that the list is over."""
        self.mailbox()
        if self.peek() != b",":
            return True
        self.at += 1
        if self.skip_cfws() and self.peek() == b";":
            self.add(None, None, None, None)
        return False

    def mailbox(self) -> None:
        """mailbox = name-addr / addr-spec."""
        start = self.at
        try:
            name = self.phrase()
        except _SyntaxError:
            name = None
        if name is not None and self.peek() == b"<":
            self.angle_addr(name)
            return
        self.at = start
        self.addr_spec()

    def angle_addr(self, name: bytes) -> None:
        """angle-addr = [CFWS] "<" [obs-route] addr-spec ">" [CFWS]."""
        route = mailbox = host = None
        self.at += 1
        try:
            if not self.skip_cfws():
                raise _SyntaxError
            if self.peek() == b"@":
                route = self.obs_route()
                if self.at >= self.end or not self.skip_cfws():
                    raise _SyntaxError
            if self.peek() != b">":
                mailbox, is_whole = self.local_part()
                if not is_whole:
                    raise _SyntaxError
                if self.peek() == b"@":
                    host = self.domain()
            if self.peek() != b">":
                raise _SyntaxError
            self.at += 1
            self.skip_cfws_or_end()
        except _SyntaxError:
            host = SYNTAX_ERROR
        self.add(name or None, route, mailbox, host)

    def addr_spec(self) -> None:
        """addr-spec = local-part "@" domain; a lone word is a mailbox, several are a display name."""
        self.comment = b""
        is_quoted = self.peek() == b'"'
        mailbox: bytes | None = None
        host: bytes | None = None
        text = b""
        has_domain = False
        try:
            mailbox, _ = self.local_part()
            text = mailbox
        except _SyntaxError as error:
            text = error.args[0] if error.args else b""
        if self.peek() == b"@":
            has_domain = True
            try:
                host = self.domain()
            except _SyntaxError:
                host = None
        if self.comment:
            self.add(self.comment, None, mailbox, host)
        elif has_domain:
            self.add(None, None, mailbox, host)
        else:
            self.lone_words(mailbox, text, is_quoted)

    def lone_words(self, mailbox: bytes | None, text: bytes, is_quoted: bool) -> None:
        """No domain and no comment: `user` is a mailbox, `"User"` and `Some User` are names."""
        words: list[bytes] = []
        with suppress(_SyntaxError):
            self.phrase(words)
        more = b" ".join(words)
        if more or (is_quoted and mailbox is not None):
            self.add((text + b" " + more).rstrip(b" "), None, None, None)
        else:
            self.add(None, None, mailbox, None)

    def local_part(self) -> tuple[bytes, bool]:
        """local-part = dot-atom / quoted-string / obs-local-part, dots anywhere. False: the field ended behind it."""
        if self.peek() == b'"':
            return self.quoted_string(), self.skip_cfws()
        text: list[bytes] = []
        while True:
            while self.peek() == b".":
                text.append(b".")
                self.at += 1
                if self.at == self.end:
                    return b"".join(text), False
            if self.peek() == b"@" and text:
                return b"".join(text), True
            atom = _ATOM.match(self.octets, self.at)
            if atom is None:
                raise _SyntaxError(b"".join(text))
            text.append(atom[0])
            self.at = atom.end()
            try:
                more = self.skip_cfws()
            except _SyntaxError:
                raise _SyntaxError(b"".join(text)) from None
            if not more or self.peek() != b".":
                return b"".join(text), more

    def domain(self) -> bytes:
        """domain = dot-atom / domain-literal / obs-domain, behind its "@"."""
        self.at += 1
        if not self.skip_cfws():
            raise _SyntaxError
        if self.peek() == b"[":
            return self.domain_literal()
        text: list[bytes] = []
        while True:
            atom = _ATOM.match(self.octets, self.at)
            if atom is None:
                raise _SyntaxError
            text.append(atom[0])
            self.at = atom.end()
            if not self.skip_cfws() or self.peek() != b".":
                return b".".join(text)
            self.at += 1
            if not self.skip_cfws():
                raise _SyntaxError

    def domain_literal(self) -> bytes:
        """domain-literal = [CFWS] "[" *([FWS] dtext) [FWS] "]" [CFWS], kept as written."""
        start = self.at
        while self.at < self.end:
            octet = self.octets[self.at]
            if octet == 92:  # "\"
                self.at += 1
            elif octet == 93:  # "]"
                self.at += 1
                text = self.octets[start : self.at]
                self.skip_cfws()
                return text
            self.at += 1
        self.at = self.end
        raise _SyntaxError

    def obs_route(self) -> bytes:
        """obs-route = obs-domain-list ":"; INVALID_ROUTE when it is none."""
        route: list[bytes] = []
        try:
            while self.peek() == b"@":
                route.append(b"@" + self.domain())
                while self.skip_cfws() and self.peek() == b",":
                    self.at += 1
        except _SyntaxError:
            return INVALID_ROUTE
        if self.peek() != b":":
            return INVALID_ROUTE
        self.at += 1
        return b",".join(route)

    def phrase(self, words: list[bytes] | None = None) -> bytes:
        """phrase = 1*word / obs-phrase; b"" for none. Words read before an error stay in the list given."""
        if words is None:
            words = []
        if self.at >= self.end:
            return b""
        if self.peek() == b".":
            raise _SyntaxError
        while True:
            if self.peek() == b'"':
                words.append(self.quoted_string())
            else:
                run = _WORDS.match(self.octets, self.at)
                assert run is not None
                words += run[0].split()
                self.at = run.end()
            if not self.skip_cfws():
                return b" ".join(words)
            following = self.peek()
            if following not in b'".' and _ATOM.match(following) is None:
                return b" ".join(words)

    def quoted_string(self) -> bytes:
        """quoted-string without its quotes and backslashes, CRLF of a fold removed."""
        close = _find_quote(self.octets, self.at + 1)
        if close < 0:
            self.at = self.end
            raise _SyntaxError
        text = self.octets[self.at + 1 : close]
        self.at = close + 1
        return unescape(text)

    def skip_cfws(self) -> bool:
        """CFWS = comments and folding white space. False at the end of the field."""
        octets = self.octets
        while True:
            white = _WHITE.match(octets, self.at)
            assert white is not None
            self.at = white.end()
            if self.at >= self.end:
                return False
            if octets[self.at] != 40:  # "("
                return True
            self.skip_comment()

    def skip_cfws_or_end(self) -> None:
        """CFWS behind something complete: a broken comment only ends the field."""
        try:
            self.skip_cfws()
        except _SyntaxError:
            self.at = self.end

    def skip_comment(self) -> None:
        """comment = "(" *([FWS] ccontent) [FWS] ")", nesting; remembered without its outer parentheses."""
        start = self.at + 1
        level = 1
        self.comment = b""
        for mark in _COMMENT_MARKS.finditer(self.octets, start):
            if mark[0] == b"(":
                level += 1
            elif mark[0] == b")":
                level -= 1
                if not level:
                    self.comment = unescape(self.octets[start : mark.start()])
                    self.at = mark.end()
                    return
        self.at = self.end
        raise _SyntaxError

    def peek(self) -> bytes:
        return self.octets[self.at : self.at + 1]

    def add(self, name: bytes | None, route: bytes | None, mailbox: bytes | None, host: bytes | None) -> None:
        """Add an address; a host is never None or empty, because None would read as a group (RFC 3501 §7.4.2)."""
        self.addresses.append(
            Address(name, route, MISSING_MAILBOX if mailbox is None else mailbox, host or MISSING_DOMAIN)
        )


_COMMENT_MARKS = re.compile(rb"\\.|[()]", re.DOTALL)
_QUOTE_MARKS = re.compile(rb"\\.|\"", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)|\r?\n", re.DOTALL)


def unescape(text: bytes) -> bytes:
    """Take quoted pairs and folds out of the inside of a quoted-string or comment, RFC 5322 §3.2.1."""
    if b"\\" not in text and b"\n" not in text:
        return text
    return _ESCAPED.sub(rb"\1", text)


def _find_quote(octets: bytes, start: int) -> int:
    """The quote that ends a quoted-string; -1 when there is none."""
    for mark in _QUOTE_MARKS.finditer(octets, start):
        if mark[0] == b'"':
            return mark.start()
    return -1

"""Lists of senders that somebody always wants to hear of, or never: patterns, and which of them decides. Values only.

alice@example.net     that address
news-*@example.net    what fits; * stands for any characters, none among them
*.example.net         domains below it
example.net           that domain and those below it
192.0.2.0/24          the network of the host that brings the mail; a single address is one, too

Of the entries that fit, an account's own go before its tenant's; then the more exact one decides, in the order above, and the
longer one among its kind. At equal terms the sender is allowed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, TypeAlias

from filters.networks import address_of
from protocol.address import AddressError, AddrSpec, is_domain, parse_addr_spec
from protocol.domain import a_labels

PATTERN_LIMIT = 320  # characters: the longest address, RFC 5321 §4.5.3.1

Standing: TypeAlias = Literal["allowed", "blocked"]
_Rank: TypeAlias = tuple[bool, int, int, bool]  # own, kind, length, allowed
_NETWORK, _DOMAIN, _WILDCARD, _ADDRESS = range(4)


class PatternError(ValueError):
    """The text is no pattern. The message says what is expected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list, in the form that normal() gives."""

    pattern: str
    standing: Standing
    is_own: bool  # of the account; otherwise of its tenant


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom a message names as its sender."""

    address: str  # in the form that spelled() gives
    is_proven: bool  # whoever brings it may use that name: otherwise it allows nothing


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """An entry that fits. The greatest one decides."""

    rank: _Rank
    entry: Entry

    @property
    def standing(self) -> Standing:
        """What it makes of the sender."""
        return self.entry.standing

    @property
    def reason(self) -> str:
        """For people."""
        whose = "the account" if self.entry.is_own else "its tenant"
        return f"{whose} has {self.standing} {self.entry.pattern}"


class SenderList:
    """What one account and its tenant have listed."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._names: dict[str, list[Match]] = defaultdict(list)  # addresses, and domains
        self._wildcards: list[tuple[tuple[str, ...], Match]] = []
        self._networks: list[tuple[IPv4Network | IPv6Network, Match]] = []
        self._greatest_allowed: _Rank | None = None
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        pattern, is_allowed = entry.pattern, entry.standing == "allowed"
        network = _network(pattern)
        if network is not None:
            match = Match((entry.is_own, _NETWORK, network.prefixlen, is_allowed), entry)
            self._networks.append((network, match))
        elif "*" in pattern:
            match = Match((entry.is_own, _WILDCARD, len(pattern.replace("*", "")), is_allowed), entry)
            whole = pattern if "@" in pattern else f"*@{pattern}"
            self._wildcards.append((tuple(whole.split("*")), match))
        else:
            kind = _ADDRESS if "@" in pattern else _DOMAIN
            match = Match((entry.is_own, kind, len(pattern), is_allowed), entry)
            self._names[pattern].append(match)
        if is_allowed and kind_of(match) != _NETWORK:
            self._greatest_allowed = max(match.rank, self._greatest_allowed or match.rank)

    def __bool__(self) -> bool:
        return bool(self._names or self._wildcards or self._networks)

    def judge(self, peer: str, identities: Sequence[Identity]) -> Match | None:
        """The entry that decides about a sender, if one fits. peer: IP address; "" for a local socket."""
        found = self._of_network(peer) if self._networks else []
        for identity in identities:
            found += [
                match
                for match in self._of_address(identity.address)
                if identity.is_proven or match.standing == "blocked"
            ]
        return max(found, default=None, key=lambda match: match.rank)

    def may_allow(self, match: Match) -> bool:
        """Whether an author who is not known yet could be allowed against this match."""
        return self._greatest_allowed is not None and self._greatest_allowed > match.rank

    def _of_network(self, peer: str) -> list[Match]:
        address = address_of(peer)
        return [] if address is None else [match for network, match in self._networks if address in network]

    def _of_address(self, address: str) -> list[Match]:
        found = list(self._names.get(address, ()))
        domain = address.rpartition("@")[2]
        while domain:
            found += self._names.get(domain, ())
            domain = domain.partition(".")[2]
        return found + [match for pieces, match in self._wildcards if _fits(pieces, address)]


def kind_of(match: Match) -> int:
    """The place of its kind in the order of exactness."""
    return match.rank[1]


def spelled(address: AddrSpec) -> str:
    """An address in the form in which patterns are compared: lower case, A-labels."""
    return f"{address.local_part.lower()}@{a_labels(address.domain)}"


def normal(text: str) -> str:
    """A pattern in the form in which it is stored and compared. Raises PatternError."""
    text = text.strip()
    if not text or len(text) > PATTERN_LIMIT:
        raise PatternError(f"expected an address, a domain or a network, of {PATTERN_LIMIT} characters at most")
    network = _network(text)
    if network is not None:
        return _normal_network(network)
    local_part, at, domain = text.rpartition("@")
    if "*" in text:
        return _normal_wildcard(local_part, at, domain)
    if at:
        try:
            return spelled(parse_addr_spec(text))
        except AddressError as error:
            raise PatternError(f"not an address: {error}") from None
    if not is_domain(domain) or "." not in domain:
        raise PatternError("expected an address, a domain or a network")
    return a_labels(domain)


def _normal_wildcard(local_part: str, at: str, domain: str) -> str:
    if any(character.isspace() or character in '<>"' for character in local_part + domain):
        raise PatternError("an address has no such characters")
    if domain.startswith("*.") and "*" not in domain[1:]:
        domain = f"*.{a_labels(domain[2:])}"
    elif "*" not in domain:
        domain = a_labels(domain)
    pattern = f"{local_part}{at}{domain}".lower()
    if not pattern.replace("*", "").strip("@."):
        raise PatternError("a pattern that fits everything is none")
    return pattern


def _normal_network(network: IPv4Network | IPv6Network) -> str:
    if not network.prefixlen:
        raise PatternError("a network that holds every address is none")
    return str(network.network_address if network.num_addresses == 1 else network)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _fits(pieces: Sequence[str], address: str) -> bool:
    """Whether these pieces stand in the address in their order, the first one at its beginning and the last one at its end."""
    first, *middle, last = pieces
    if not address.startswith(first):
        return False
    at = len(first)
    for piece in middle:
        found = address.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(address) - at >= len(last) and address.endswith(last)

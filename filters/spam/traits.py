"""Traits: what tells of how a message was made and sent, whatever it says. Words for Bayes, like those of its text.

Which fields there are and in which order, what programs write into dates, boundaries and Message-IDs, whether the addresses
and hosts that it names belong together. Spam is written by other programs than letters are, and names what is not its own.
"""

import re
from itertools import islice, pairwise

from filters.spam.sight import ADDED_ON_THE_WAY, MAX_FIELDS, Sight, site

_DIGITS = re.compile(r"\d+")
_SMALL = re.compile(r"[a-z]+")
_CAPITAL = re.compile(r"[A-Z]+")
_ZONE = re.compile(r"([+-]\d{4}|[A-Z]{2,4})\s*(\([^)]*\))?\s*$")
_BOUNDARY = re.compile(r'boundary\s*=\s*"?([^";\s]+)', re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9A-F]")
_NETWORK = re.compile(r"\b(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}\b")
_PEER = re.compile(r"\s*from\s+(\S+)\s*(\([^)]*\))?")
_POINTER = re.compile(r"([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})\s*\[")
_NUMBERED = re.compile(r"\d[-.]\d+[-.]\d")
_ADDRESS_LITERAL = re.compile(r"\[?[\d.]+\]?")
_URI_WORD = re.compile(r"[a-z]{2,20}")
_URI_SUFFIX = re.compile(r"\.([a-z]{2,5})(?:$|[?#])")
_MAX_LINKS = 60
_MAX_HOPS = 40
_SHAPE = 40  # characters


def sending_words(sight: Sight) -> list[str]:
    """How it was made and sent: its fields, their order and forms, and what belongs together."""
    found = [f"via {each[:60]}" for each in islice(sight.hop_sites, _MAX_HOPS)]
    found += dict.fromkeys([f"via {network}" for text in sight.received for network in _NETWORK.findall(text)[:3]])
    names = ["^", *(name for name, _ in sight.fields[:MAX_FIELDS] if name not in ADDED_ON_THE_WAY), "$"]
    found += [f"order {first}>{second}" for first, second in pairwise(names)]
    found += _relations(sight)
    found += _first_hops(sight)
    return found + _forms(sight)


def content_words(sight: Sight) -> list[str]:
    """What its text looks like, and where its links lead."""
    text, links = sight.text, sight.links
    small, capital = sight.vowels
    size = str(len(text))
    found = [
        f"size {len(size)}{'5' if size >= '5' else '1'}",
        f"line {min(max(map(len, text.split(chr(10)))), 1000) // 100}",
        f"capitals {20 * capital // max(1, small + capital)}",
        f"! {_roughly(text.count('!'))}",
        f"$ {_roughly(text.count('$'))}",
        f"? {_roughly(text.count('?'))}",
        f"quoted {_roughly(text.count(chr(10) + '>'))}",
        f"ascii {text.isascii()}",
        f"length {len(sight.subject) // 10}",
        f"subject! {min(sight.subject.count('!'), 3)}",
        f"links {_roughly(len(links))}",
    ]
    for each in links[:_MAX_LINKS]:
        rest = each.rest[:300]
        found += [f"path {word}" for word in _URI_WORD.findall(rest)[:10]]
        suffix = _URI_SUFFIX.search(rest)
        found.append(f"link .{suffix[1]}" if suffix else "link /" if rest.endswith("/") or not rest else "link")
        found.append(f"domain .{each.host.rpartition('.')[2][:8]}")
        if "?" in rest:
            found.append("link ?")
        if each.port:
            found.append("link :")
        if each.user_info:
            found.append("link @")
    return found


def _relations(sight: Sight) -> list[str]:
    """Whether what the message names belongs together."""
    own = site(sight.sender[2])
    made_at = site(sight.raw("MESSAGE-ID").strip(b" <>\r\n\t").rpartition(b"@")[2].decode("latin-1").lower())
    to = sight.addresses("TO", "CC")
    linked = {site(host) for host in sight.hosts}
    leads = "nowhere" if not linked else "home" if linked == {own} else "home too" if own in linked else "elsewhere"
    return [
        f"sender on the way {own in sight.hop_sites}",
        f"sender gave the id {own == made_at}",
        f"id on the way {made_at in sight.hop_sites}",
        f"sender and return path {_same(sight, own, 'RETURN-PATH')}",
        f"sender and reply {_same(sight, own, 'REPLY-TO')}",
        f"leads {leads}",
        f"leads to {_roughly(len(linked))}",
        f"recipients {_roughly(len(to))}",
        f"sender and recipient {own in {site(domain) for _, domain in to}}",
    ]


def _same(sight: Sight, own: str, name: str) -> str:
    sites = {site(domain) for _, domain in sight.addresses(name)}
    return str(own in sites) if sites else "none"


def _first_hops(sight: Sight) -> list[str]:
    """The hosts nearest to the sender: how they called themselves, and what those who took the mail from them saw."""
    own = site(sight.sender[2])
    found = [f"hops {min(len(sight.received), 12)}"]
    for text in sight.received[-3:]:
        if "may be forged" in text:
            found.append("hop forged")
        if "unknown" in text:
            found.append("hop unknown")
        match = _PEER.match(text)
        if match is None:
            continue
        called = match[1]
        kind = "address" if _ADDRESS_LITERAL.fullmatch(called) else "name" if "." in called else "word"
        found.append(f"hop is {kind}")
        found.append(f"hop is sender {site(called) == own}")
        pointer = _POINTER.search(match[2] or "")
        if pointer is None:
            found.append("hop pointer none")
        else:
            found.append(f"hop pointer {site(pointer[1]) == site(called)}")
            found.append(f"hop pointer numbered {_NUMBERED.search(pointer[1]) is not None}")
    return found


def _forms(sight: Sight) -> list[str]:
    """What programs write each in their own way."""
    date = sight.raw("DATE").decode("latin-1").strip()[:80]
    zone = _ZONE.search(date)
    found = [f"zone {zone[1]}" if zone else "zone none", f"date {_shape(date)}"]
    if zone and zone[2]:
        found.append(f"zone {zone[2]}")
    boundary = _BOUNDARY.search(sight.raw("CONTENT-TYPE")[:1000].decode("latin-1"))
    if boundary:
        found.append(f"boundary {_shape(boundary[1])}")
        found.append(f"boundary {_HEXADECIMAL.sub('0', boundary[1][:16])}")
    else:
        found.append("boundary none")
    found.append(f"id {_shape(sight.raw('MESSAGE-ID')[:200].decode('latin-1').partition('@')[0])}")
    return found


def _shape(text: str) -> str:
    """Each run of digits as one, of letters too: what is left is how it was put together."""
    return _SMALL.sub("a", _CAPITAL.sub("A", _DIGITS.sub("0", text)))[:_SHAPE]


def _roughly(number: int) -> str:
    for most, text in ((2, str(number)), (5, "few"), (10, "some"), (20, "several"), (50, "many")):
        if number <= most:
            return text
    return "very many"

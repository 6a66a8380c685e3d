"""Traits: what tells of how a message was made and sent, whatever it says. Words for Bayes, like those of its text.

Which fields there are and in which order, what programs write into dates, boundaries and Message-IDs, and the way that it came:
spam is written by other programs than letters are. Markup, sizes, shares of capitals, and whether the addresses of a
message belong together were tried as well; where words are known, these say nothing more.
"""

import re
from itertools import islice, pairwise

from filters.spam.sight import ADDED_ON_THE_WAY, MAX_FIELDS, Sight

_DIGITS = re.compile(r"\d+")
_SMALL = re.compile(r"[a-z]+")
_CAPITAL = re.compile(r"[A-Z]+")
_ZONE = re.compile(r"([+-]\d{4}|[A-Z]{2,4})\s*(\([^)]*\))?\s*$")
_BOUNDARY = re.compile(r'boundary\s*=\s*"?([^";\s]+)', re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9A-F]")
_NETWORK = re.compile(r"[\[( ](\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}[\]) ;]")
_URI_WORD = re.compile(r"[a-z]{2,20}")
_MAX_LINKS = 60
_MAX_HOPS = 40
_SHAPE = 40  # characters


def sending_words(sight: Sight) -> list[str]:
    """The way that it came, the order of its fields, and the forms of what programs write each in their own way."""
    names = ["^", *[name for name, _ in sight.fields[:MAX_FIELDS] if name not in ADDED_ON_THE_WAY], "$"]
    found = [f"order {first}>{second}" for first, second in pairwise(names)]
    found += [f"via {each[:60]}" for each in islice(sight.hop_sites, _MAX_HOPS)]
    found += [f"via {network}" for text in sight.received for network in _NETWORK.findall(text)[:3]]
    zone = _ZONE.search(sight.raw("DATE")[-40:].decode("latin-1").rstrip())
    found.append(f"zone {zone[1]}" if zone else "zone none")
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


def link_words(sight: Sight) -> list[str]:
    """What stands in web addresses behind the host."""
    return [f"path {word}" for each in sight.links[:_MAX_LINKS] for word in _URI_WORD.findall(each.rest[:300])[:10]]


def _shape(text: str) -> str:
    """Each run of digits as one, of letters too: what is left is how it was put together."""
    return _SMALL.sub("a", _CAPITAL.sub("A", _DIGITS.sub("0", text)))[:_SHAPE]

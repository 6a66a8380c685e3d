"""Rules about links: addresses that hide where they lead."""

import re

from filters.spam.rules import Pattern, Question, Rule
from filters.spam.sight import Sight, site

_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]")
_NUMBER = re.compile(r"\d{6,}|0x[0-9a-f]+|(?:0x[0-9a-f]+|0\d+)(?:\.(?:0x[0-9a-f]+|\d+)){1,3}")
_HEX = re.compile(r"%(?:2[0-9a-f]|3[0-9]|4[0-9a-f]|5[0-9a]|6[0-9a-f]|7[0-9a])", re.IGNORECASE)
_ANCHOR = re.compile(
    r"""<a\b[^>]{0,500}?href\s*=\s*["']?(https?://[^"'\s>]{1,1000})["']?[^>]{0,200}>(.{0,300}?)</a""", re.I | re.S
)
_SHOWN_HOST = re.compile(
    r"^\W{0,3}(?:https?://)?((?:[\w-]{1,63}\.){1,8}(?:com|net|org|de|eu|info|biz|at|ch|fr|uk|gov|bank))\b", re.I
)
_MARKUP = re.compile(r"<[^>]*>")
_SHORTENERS = frozenset(
    [
        "bit.ly",
        "tinyurl.com",
        "goo.gl",
        "t.co",
        "ow.ly",
        "is.gd",
        "buff.ly",
        "rebrand.ly",
        "cutt.ly",
        "rb.gy",
        "t.ly",
        "shorturl.at",
        "tiny.cc",
        "v.gd",
        "s.id",
    ]
)
_CHEAP = frozenset(
    [
        "biz",
        "info",
        "top",
        "xyz",
        "click",
        "link",
        "work",
        "loan",
        "win",
        "bid",
        "date",
        "racing",
        "review",
        "download",
        "stream",
        "trade",
        "science",
        "gq",
        "cf",
        "tk",
        "ml",
        "ga",
        "icu",
        "cam",
        "buzz",
        "rest",
        "monster",
        "sbs",
        "cyou",
        "cfd",
        "quest",
        "zip",
        "mov",
    ]
)


def _hides_host(sight: Sight) -> bool:
    """The text of a link is one address, the link leads to another."""
    if "<a" not in sight.html and "<A" not in sight.html:
        return False
    for match in _ANCHOR.finditer(sight.html[: 64 << 10]):
        shown = _SHOWN_HOST.match(_MARKUP.sub("", match[2]).strip())
        if shown is not None and site(shown[1].lower()) != site(
            match[1].partition("://")[2].partition("/")[0].partition(":")[0].lower()
        ):
            return True
    return False


def _all_elsewhere(sight: Sight) -> bool:
    """All links lead to one site, which is not the sender's."""
    sites = {site(host) for host in sight.hosts}
    return len(sites) == 1 and bool(sight.sender[2]) and site(sight.sender[2]) not in sites


def _coded(sight: Sight) -> bool:
    return any(
        len(_HEX.findall(each.text[:300])) >= 3 and _HEX.search(each.text.partition("?")[0]) is not None
        for each in sight.links
    )


def _nested(sight: Sight) -> bool:
    return any("http://" in each.rest.lower() or "https://" in each.rest.lower() for each in sight.links)


RULES: tuple[Rule, ...] = (
    Question(
        "link_ip",
        2.1,
        "a link leads to a number instead of a name",
        "ein Link führt zu einer Nummer statt zu einem Namen",
        lambda s: any(_IP.fullmatch(host) for host in s.hosts),
        about="links",
    ),
    Question(
        "link_number",
        2.5,
        "a link hides its host in a number",
        "ein Link verbirgt seinen Rechner in einer Zahl",
        lambda s: any(_NUMBER.fullmatch(host) for host in s.hosts),
        about="links",
    ),
    Question(
        "link_user_info",
        2.0,
        "a link pretends to lead elsewhere",
        "ein Link täuscht ein anderes Ziel vor",
        lambda s: any(each.user_info for each in s.links),
        about="links",
    ),
    Question(
        "link_port",
        0.8,
        "a link uses an odd port",
        "ein Link nutzt einen ungewöhnlichen Port",
        lambda s: any(each.port not in ("", "80", "443", "8080") for each in s.links),
        about="links",
    ),
    Question(
        "link_shortened",
        0.8,
        "a link hides behind a shortening service",
        "ein Link verbirgt sich hinter einem Kürzungsdienst",
        lambda s: bool(s.hosts & _SHORTENERS),
        about="links",
    ),
    Question(
        "link_cheap_domain",
        0.7,
        "a link leads to a domain of a kind that is often abused",
        "ein Link führt zu einer Domain, deren Art oft missbraucht wird",
        lambda s: any(host.rpartition(".")[2] in _CHEAP for host in s.hosts if "." in host),
        about="links",
    ),
    Question(
        "link_hides_host",
        1.3,
        "a link shows another address than the one it leads to",
        "ein Link zeigt eine andere Adresse, als er ansteuert",
        _hides_host,
        about="links",
    ),
    Question(
        "link_elsewhere",
        0.6,
        "all links lead to one site that is not the sender's",
        "alle Links führen zu einer Website, die nicht die des Absenders ist",
        _all_elsewhere,
        about="links",
    ),
    Question(
        "link_coded", 1.2, "a link is encoded without need", "ein Link ist ohne Not kodiert", _coded, about="links"
    ),
    Question(
        "link_nested",
        0.5,
        "a link goes through another site",
        "ein Link führt über eine andere Website",
        _nested,
        about="links",
    ),
    Question(
        "link_punycode",
        1.0,
        "a link leads to a name in another script",
        "ein Link führt zu einem Namen in fremder Schrift",
        lambda s: any("xn--" in host or not host.isascii() for host in s.hosts),
        about="links",
    ),
    Question(
        "link_many_labels",
        0.8,
        "a link leads to a name of very many parts",
        "ein Link führt zu einem Namen aus sehr vielen Teilen",
        lambda s: any(host.count(".") >= 5 and not _IP.fullmatch(host) for host in s.hosts),
        about="links",
    ),
    Question(
        "link_random_host",
        0.8,
        "a link leads to a random name",
        "ein Link führt zu einem zufälligen Namen",
        lambda s: any(re.search(r"[bcdfghjklmnpqrstvwxz]{7,}|\d[a-z]+\d+[a-z]+\d", host) for host in s.hosts),
        about="links",
    ),
    Pattern(
        "link_number_in_mailto",
        0.9,
        "it wants to be answered by a mail with a given subject",
        "sie will mit vorgegebenem Betreff beantwortet werden",
        "html",
        r"mailto:[^\"'>]{1,200}\?subject=\W{0,5}(?:remove|unsub|off|stop|delete)",
    ),
    Pattern(
        "link_exit_script",
        1.1,
        "it links a script to be taken off a list",
        "sie verlinkt ein Skript zum Austragen",
        "html",
        r"href\s*=\s*[\"']?https?://[^\"'> ]{1,200}(?:remove|optout|opt-out|unlist|takemeoff)[^\"'> ]{0,40}",
    ),
)

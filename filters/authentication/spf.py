"""SPF, RFC 7208: whether a host may send for a domain. Evaluated by pyspf, whose questions to the DNS are asked by us.

pyspf asks as if answers came at once. Here a question without an answer ends its run; the answer is awaited, and pyspf runs again,
now one question further. A run takes a tenth of a millisecond and never waits, so nothing blocks and no thread is needed.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import spf as pyspf

from filters.authentication.results import Scope, SpfResult, SpfWord
from filters.ports import Resolver
from protocol.address import AddrSpec, is_domain
from protocol.domain import a_labels

LIMIT_SECONDS = 20.0  # for one check, RFC 7208 §4.6.4
QUESTIONS = 128  # of one check, ours: what the limits of RFC 7208 §4.6.4 come to, and a few more
_NAMES = 10  # that an MX or PTR answer may have, RFC 7208 §4.6.4
_TEXT = 255  # characters of what a stranger writes
_UNSHOWN = re.compile(r"[^ -~]")

_Question: TypeAlias = tuple[str, str]  # name, type
_Answer: TypeAlias = list[tuple[_Question, object]] | None  # None: cannot be known now


class _MissingError(BaseException):
    """Ends a run of pyspf; no `except Exception` of its may catch it."""


class _Answers:
    """What is known of the DNS during one check, and what was asked besides."""

    def __init__(self) -> None:
        self.known: dict[_Question, _Answer] = {}
        self.missing: _Question | None = None

    def lookup(self, name: str, kind: str) -> list[tuple[_Question, object]]:
        """What pyspf takes for an answer at once."""
        question = name, kind
        if question not in self.known:
            self.missing = question  # noted, for pyspf also has an `except:` that catches everything
            raise _MissingError
        answer = self.known[question]
        if answer is None:
            raise pyspf.TempError(f"no answer to {kind} {name}")
        return answer


_asked: _Answers | None = None  # those of the run that goes on; there is one at most, for none of them waits


def _lookup(name: str, kind: str, _strict: object = True, _timeout: object = 0) -> list[tuple[_Question, object]]:
    assert _asked is not None, "pyspf is run by this module alone"
    return _asked.lookup(name, kind)


pyspf.DNSLookup = _lookup  # a global of the module: it has no other way in


class _Query(pyspf.query):  # type: ignore[misc]  # pyspf has no types
    """One check. Explanations are looked up only when they are wanted: RFC 7208 §6.2 needs them for fail alone."""

    explains = False

    def __init__(self, peer: str, sender: AddrSpec | None, helo: str, receiver: str) -> None:
        super().__init__(i=peer, s=str(sender or ""), h=helo, receiver=receiver)
        if sender is not None:  # pyspf would look for the "@" itself, and find one inside quotes
            self.l, self.o = sender.local_part or "postmaster", a_labels(sender.domain)
            self.d = self.o

    def get_explanation(self, spec: str) -> str | None:
        return super().get_explanation(spec) if self.explains else None


async def check_sender(
    resolver: Resolver, peer: str, helo: str, reverse_path: AddrSpec | None, *, receiver: str
) -> SpfResult:
    """Check the identity of MAIL FROM; with a null reverse path that is postmaster at the HELO name (RFC 7208 §2.4)."""
    if reverse_path is None or not reverse_path.domain:
        return await check_helo(resolver, peer, helo, receiver=receiver)
    return await _check(resolver, peer, helo, reverse_path, receiver)


async def check_helo(resolver: Resolver, peer: str, helo: str, *, receiver: str) -> SpfResult:
    """Check the identity of HELO, RFC 7208 §2.3."""
    return await _check(resolver, peer, helo, None, receiver)


async def _check(resolver: Resolver, peer: str, helo: str, sender: AddrSpec | None, receiver: str) -> SpfResult:
    scope: Scope = "helo" if sender is None else "mfrom"
    helo = a_labels(helo)
    domain = helo if sender is None else a_labels(sender.domain)
    if "." not in domain or domain.startswith("["):
        return SpfResult("none", domain, scope, "no domain name")  # RFC 7208 §4.3
    query = _Query(peer, sender, helo, receiver)
    answers = _Answers()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            if is_domain(domain):
                await _learn(resolver, query, answers, domain.lower(), "TXT")  # it asks for that first: one run less
                if _has_no_record(answers.known[domain.lower(), "TXT"]):
                    return SpfResult("none", domain, scope)  # RFC 7208 §4.5; most HELO names have none
            word, reason = await _evaluated(resolver, query, answers)
            explanation = ""
            if word == "fail":
                query.explains = True
                again, text = await _evaluated(resolver, query, answers)
                explanation = _plain(text) if again == "fail" and text != pyspf.EXPLANATIONS["fail"] else ""
    except TimeoutError:
        return SpfResult("temperror", domain, scope, "took too long")
    reason = _plain(reason) if word in ("temperror", "permerror") else _plain(str(query.mechanism or ""))
    return SpfResult(word, domain, scope, reason, explanation)


def _has_no_record(texts: _Answer) -> bool:
    """Whether nothing among the TXT records could be one of SPF; what could be is pyspf's to read."""
    return texts is not None and not any(b"spf" in cast(tuple[bytes], value)[0].lower() for _, value in texts)


async def _evaluated(resolver: Resolver, query: _Query, answers: _Answers) -> tuple[SpfWord, str]:
    """The result and what pyspf says to it, when all questions are answered. Raises TimeoutError."""
    while True:
        answers.missing = None
        query.cache = {}
        query.set_explanation("")
        query.exps = dict(pyspf.EXPLANATIONS)
        query.p = None
        word, text = _run(query, answers)
        if answers.missing is None:
            return word, text
        if len(answers.known) >= QUESTIONS:
            return "permerror", "too many questions to the DNS"
        await _ask(resolver, query, answers, *answers.missing)


def _run(query: _Query, answers: _Answers) -> tuple[SpfWord, str]:
    with _answered_by(answers):
        try:
            result, _, text = query.check()
        except _MissingError:
            return "none", ""
        except Exception as error:  # whatever a stranger's record makes of pyspf: it is that record's fault
            return "permerror", type(error).__name__
    return cast(SpfWord, result), text.removeprefix("SPF Permanent Error: ").removeprefix("SPF Temporary Error: ")


@contextmanager
def _answered_by(answers: _Answers) -> Iterator[None]:
    global _asked
    _asked = answers
    try:
        yield
    finally:
        _asked = None


async def _ask(resolver: Resolver, query: _Query, answers: _Answers, name: str, kind: str) -> None:
    """Learn one answer, and those that pyspf asks for next: of MX and PTR records it wants all addresses (RFC 7208 §5.4)."""
    await _learn(resolver, query, answers, name, kind)
    known = answers.known[name, kind]
    if kind not in ("MX", "PTR") or known is None or (kind == "MX" and len(known) > _NAMES):
        return
    hosts = [cast(tuple[int, str], value)[1] if kind == "MX" else cast(str, value) for _, value in known[:_NAMES]]
    wanted = {(host.lower().removesuffix("."), str(query.A)) for host in hosts if host} - answers.known.keys()
    await asyncio.gather(*(_learn(resolver, query, answers, host, family) for host, family in sorted(wanted)))


async def _learn(resolver: Resolver, query: _Query, answers: _Answers, name: str, kind: str) -> None:
    question = name, kind
    try:
        answers.known[question] = [(question, value) for value in await _values(resolver, query, name, kind)]
    except TimeoutError:
        answers.known[question] = None


async def _values(resolver: Resolver, query: _Query, name: str, kind: str) -> list[Any]:
    """As pyspf wants them."""
    if kind == "TXT":
        return [(text,) for text in await resolver.texts(name)]
    if kind == "MX":
        return list(await resolver.exchangers(name))
    if kind == "PTR":  # it only ever asks about the peer
        return list(await resolver.pointers(str(query.ipaddr)))
    return list(await resolver.family(name, "AAAA" if kind == "AAAA" else "A"))


def _plain(text: str) -> str:
    """Without what does not belong in a field or a reply, and not longer than a line or two."""
    return _UNSHOWN.sub("?", text[:_TEXT])

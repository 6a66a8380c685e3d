"""`python -m bench.spam DIRECTORY`: how well the built-in spam filter tells real spam from real mail, and what that costs.

DIRECTORY has ham/… and spam/…, one message a file, as the SpamAssassin public corpus of 2002 and 2003. The split is in halves by
the first hexadecimal digit in the SHA-256 of the octets, even or odd. Each half is judged by what the other one taught, and
the sum of both is what counts. With --splits N, N other splits in halves by chance are judged as well. Counts are kept in
memory: the engine is the same.

The envelopes of the corpus are lost. Of the recipients' addresses what stands behind the + or - (some of its owners gave each
sender another address) is taken from the fields where their servers noted it.
"""

import argparse
import asyncio
import gc
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filters.spam.bayes import Level
from filters.spam.rules import Rule
from filters.spam.score import Scorer, SpamVerdict, Thresholds
from filters.spam.sight import Circumstances, Sight
from filters.spam.tokens import tokens_of

_FOR = re.compile(rb"\sfor\s+<?([^<>\s@]+)@")
_DETAIL = re.compile(r"[+-](.+)")


@dataclass(frozen=True, slots=True)
class Sorted:
    """One message that people sorted."""

    path: Path
    octets: bytes
    is_spam: bool
    is_training: bool


class Memory:
    """One level of counts, in memory."""

    def __init__(self) -> None:
        self.spam = self.ham = 0
        self.spam_tokens: Counter[int] = Counter()
        self.ham_tokens: Counter[int] = Counter()
        self._counts: dict[int, tuple[int, int]] | None = None

    def learn(self, tokens: Sequence[int], *, is_spam: bool) -> None:
        """Count one message."""
        self._counts = None
        if is_spam:
            self.spam += 1
            self.spam_tokens.update(tokens)
        else:
            self.ham += 1
            self.ham_tokens.update(tokens)

    async def levels(self, tokens: Sequence[int]) -> Sequence[Level]:
        """filters.spam.bayes.Counts."""
        if self._counts is None:
            both = self.spam_tokens.keys() | self.ham_tokens.keys()
            # Most tokens have one of a few counts: each is one object, as it would be in a cache.
            shared: dict[tuple[int, int], tuple[int, int]] = {}
            counted = ((token, (self.spam_tokens[token], self.ham_tokens[token])) for token in both)
            self._counts = {token: shared.setdefault(count, count) for token, count in counted}
        known = self._counts
        return [Level(self.spam, self.ham, {token: known[token] for token in known.keys() & tokens})]


def messages(directory: Path) -> list[Sorted]:
    """All messages of the corpus; what trains has an even digit."""
    found = []
    for kind in ("ham", "spam"):
        for path in sorted((directory / kind).rglob("*")):
            if path.is_file():
                found.append(placed(path, path.read_bytes(), is_spam=kind == "spam"))
    return found


def placed(path: Path, octets: bytes, *, is_spam: bool) -> Sorted:
    """One message, in its half."""
    return Sorted(path, octets, is_spam, int(hashlib.sha256(octets).hexdigest()[0], 16) % 2 == 0)


def directions(sorted_: Sequence[Sorted]) -> tuple[Sequence[Sorted], Sequence[Sorted]]:
    """The split, and the same with what would test for training."""
    return sorted_, [replace(each, is_training=not each.is_training) for each in sorted_]


def seen(octets: bytes) -> Sight:
    """The message with what is left of its envelope."""
    sight = Sight(octets)
    noted = [match[1] for name, body in sight.fields if name == "RECEIVED" for match in _FOR.finditer(body)]
    locals_ = [local.decode("latin-1").lower() for local in noted] + [
        local.lower() for local, _ in sight.addresses("TO")
    ]
    details = [detail[1] for local in locals_ if (detail := _DETAIL.search(local))]
    return Sight(octets, Circumstances(details=(details[0],))) if details else sight


def trained(sorted_: Sequence[Sorted]) -> Memory:
    """What the training half teaches."""
    memory = Memory()
    for each in sorted_:
        if each.is_training:
            memory.learn(list(tokens_of(Sight(each.octets))), is_spam=each.is_spam)
    return memory


async def scored(
    sorted_: Sequence[Sorted], memory: Memory | None, scorer: Scorer | None = None
) -> list[tuple[Sorted, SpamVerdict]]:
    """The test half, each with its verdict."""
    scorer = scorer or Scorer()
    return [(each, await scorer.score(seen(each.octets), memory)) for each in sorted_ if not each.is_training]


def figures(results: Sequence[tuple[Sorted, SpamVerdict]], threshold: float) -> tuple[int, int, int, int]:
    """False positives, of how many ham; detected, of how many spam."""
    ham = [verdict for each, verdict in results if not each.is_spam]
    spam = [verdict for each, verdict in results if each.is_spam]
    return (
        sum(verdict.score >= threshold for verdict in ham),
        len(ham),
        sum(verdict.score >= threshold for verdict in spam),
        len(spam),
    )


def _report(title: str, results: Sequence[tuple[Sorted, SpamVerdict]], threshold: float) -> None:
    false, ham, detected, spam = figures(results, threshold)
    print(
        f"{title:38} false positives {false} of {ham} ({false / ham:.2%}), "
        f"detected {detected} of {spam} ({detected / spam:.2%})"
    )


def _wrong(results: Sequence[tuple[Sorted, SpamVerdict]], threshold: float) -> None:
    for each, verdict in results:
        if (verdict.score >= threshold) != each.is_spam:
            print(f"  {verdict.score:6.1f} {each.path.parent.name}/{each.path.name}: {verdict.explained()}")


def _rules(sorted_: Sequence[Sorted]) -> None:
    """How often each rule holds, in the training half only."""
    held: Counter[tuple[str, bool]] = Counter()
    from filters.spam.catalogue import rule_book

    book = rule_book()
    training = [each for each in sorted_ if each.is_training]
    rules: dict[str, Rule] = {rule.name: rule for rule in book.rules}
    for each in training:
        held.update((rule.name, each.is_spam) for rule in book.ask(Sight(each.octets)))
    for name, rule in rules.items():
        print(f"  {rule.points:5.1f} {name:28} spam {held[name, True]:4}  ham {held[name, False]:4}")


def _timed(run: Callable[[], Coroutine[None, None, None]]) -> float:
    started = time.process_time()
    asyncio.run(run())
    return time.process_time() - started


def _cost(sorted_: Sequence[Sorted], memory: Memory) -> None:
    sized = [each for each in sorted_ if 7_000 <= len(each.octets) <= 9_400]
    scorer = Scorer()

    async def run() -> None:
        for each in sized:
            await scorer.score(Sight(each.octets), memory)

    asyncio.run(run())
    gc.collect()
    gc.freeze()  # the corpus and all counts are in memory here, and nowhere else
    seconds = min(_timed(run) for _ in range(9))  # others on the machine can only add to it
    octets = sum(len(each.octets) for each in sized) / len(sized)
    print(
        f"cost: {seconds / len(sized) * 1000:.2f} ms CPU for a message of {octets / 1024:.1f} KB ({len(sized)} messages)"
    )


def _judged(both: Sequence[Sequence[Sorted]], threshold: float, *, is_told: bool) -> None:
    """Each direction, and both."""
    scorer = Scorer()
    for title, is_taught in (("rules only", False), ("rules and training", True)):
        every: list[tuple[Sorted, SpamVerdict]] = []
        for number, direction in enumerate(both):
            results = asyncio.run(scored(direction, trained(direction) if is_taught else None, scorer))
            _report(f"{title}, {('even', 'odd')[number]} half trains", results, threshold)
            every += results
        _report(f"{title}, both", every, threshold)
        if is_told and is_taught:
            _wrong(every, threshold)


def _by_chance(sorted_: Sequence[Sorted], splits: int, threshold: float) -> None:
    """Other splits in halves: what the one above owes to chance."""
    scorer, sums = Scorer(), [0, 0, 0, 0]
    for seed in range(splits):
        draw = random.Random(seed)
        for direction in directions([replace(each, is_training=draw.random() < 0.5) for each in sorted_]):
            found = figures(asyncio.run(scored(direction, trained(direction), scorer)), threshold)
            sums = [one + other for one, other in zip(sums, found, strict=True)]
    false, ham, detected, spam = sums
    print(f"{splits} splits by chance, both: false positives {false / ham:.2%}, detected {detected / spam:.2%}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.spam", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threshold", type=float, default=Thresholds().junk)
    parser.add_argument("--splits", type=int, default=0, help="how many other splits to judge")
    parser.add_argument("--wrong", action="store_true", help="list what was judged wrongly, with the reasons")
    parser.add_argument("--rules", action="store_true", help="list how often each rule holds in the training half")
    options = parser.parse_args()
    found = messages(options.directory)
    memory = trained(found)
    print(f"even half: {memory.spam} spam, {memory.ham} ham, {len(memory.spam_tokens | memory.ham_tokens)} tokens")
    if options.rules:
        _rules(found)
    _judged(directions(found), options.threshold, is_told=options.wrong)
    if options.splits:
        _by_chance(found, options.splits, options.threshold)
    _cost(found, memory)


if __name__ == "__main__":
    main()

"""Bad MIME: messages built to exhaust who reads them, attachments that nobody wants, and archives that nobody can look into."""

import asyncio
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from filters.archives import is_archive, read_archive
from filters.ports import OnFailure
from filters.subject import Subject
from filters.verdict import Quarantine, Refuse, StripPart, Verdict
from protocol.message import Part
from protocol.message.documents import document_name
from protocol.message.stripping import PartPath, body, leaves
from protocol.smtp.reply import Reply, reply

Action = Literal["pass", "reject", "strip", "quarantine"]

TOO_MANY_PARTS = reply(550, "5.6.0", "message has too many parts")
TOO_DEEP = reply(550, "5.6.0", "message has too many parts within each other")
FORBIDDEN = reply(550, "5.7.1", "message refused: attachments of this kind are not accepted here")
ENCRYPTED = reply(550, "5.7.1", "message refused: encrypted archives are not accepted here")

_THREAD_OCTETS = 64 << 10  # reading more than this would hold up others
_BEGINNING_OCTETS = 256  # encoded, of an attachment: enough to see whether it is an archive
_ARCHIVE_OCTETS = 64 << 20  # a larger attachment is not looked into


@dataclass(frozen=True, slots=True)
class MimeRules:
    """What is not wanted."""

    part_limit: int = 1000
    depth_limit: int = 30
    forbidden_suffixes: frozenset[str] = frozenset()  # lower case, without the dot
    forbidden_types: frozenset[str] = frozenset()  # lower case: type/subtype, type/*
    forbidden: Action = "reject"
    encrypted_archives: Action = "pass"


@dataclass(frozen=True, slots=True)
class _Unwanted:
    """One attachment."""

    path: PartPath
    cause: Literal["attachment", "encrypted"]
    found: str


class Mime:
    """The filter `mime`. It asks nobody and remembers nothing."""

    name = "mime"
    on_failure: OnFailure = "defer"
    needs: Sequence[str] = ()
    limit_seconds = 30.0

    def __init__(self, rules: MimeRules) -> None:
        self._rules = rules

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """Judge the structure of the message, and its attachments."""
        original, root = subject.original, subject.scanned.root
        if len(original) > _THREAD_OCTETS:
            found = await asyncio.to_thread(self._look, original, root)
        else:
            found = self._look(original, root)
        if isinstance(found, Refuse):
            return [found]
        verdicts: list[Verdict] = []
        for unwanted in found:
            verdicts += self._judge(unwanted, is_submitted=subject.envelope.is_authenticated)
        return verdicts

    def _look(self, original: bytes | mmap.mmap, root: Part) -> Refuse | list[_Unwanted]:
        count, depth = _extent(root)
        if count > self._rules.part_limit:
            return Refuse(TOO_MANY_PARTS, f"{count} parts")
        if depth > self._rules.depth_limit:
            return Refuse(TOO_DEEP, f"parts {depth} deep")
        return [unwanted for path, part in leaves(root) for unwanted in self._unwanted(original, path, part)]

    def _unwanted(self, original: bytes | mmap.mmap, path: PartPath, part: Part) -> Iterator[_Unwanted]:
        """What is wrong with one leaf; one reason is enough."""
        rules = self._rules
        name = document_name(part)
        suffix = suffix_of(name)
        main = part.type.decode("ascii", "replace").lower()
        kind = f"{main}/{part.subtype.decode('ascii', 'replace').lower()}"
        if rules.forbidden != "pass":
            if suffix in rules.forbidden_suffixes:
                yield _Unwanted(path, "attachment", f".{suffix}")
                return
            if kind in rules.forbidden_types or f"{main}/*" in rules.forbidden_types:
                yield _Unwanted(path, "attachment", kind)
                return
        if part.is_text or part.end - part.body_start > _ARCHIVE_OCTETS or not self._looks_into_archives:
            return
        beginning = structs.replace(part, end=min(part.end, part.body_start + _BEGINNING_OCTETS))
        archive = read_archive(body(original, part)) if is_archive(body(original, beginning)) else None
        if archive is None:
            return
        if rules.forbidden != "pass":
            for member in archive.names:
                if suffix_of(member) in rules.forbidden_suffixes:
                    yield _Unwanted(path, "attachment", f".{suffix_of(member)} in an archive")
                    return
        if archive.is_encrypted and rules.encrypted_archives != "pass":
            yield _Unwanted(path, "encrypted", "encrypted archive")

    @property
    def _looks_into_archives(self) -> bool:
        rules = self._rules
        return rules.encrypted_archives != "pass" or (rules.forbidden != "pass" and bool(rules.forbidden_suffixes))

    def _judge(self, unwanted: _Unwanted, *, is_submitted: bool) -> Sequence[Verdict]:
        is_encrypted = unwanted.cause == "encrypted"
        action = self._rules.encrypted_archives if is_encrypted else self._rules.forbidden
        refused: Reply = ENCRYPTED if is_encrypted else FORBIDDEN
        if action == "reject" or is_submitted:
            return [Refuse(refused, f"attachment: {unwanted.found}")]
        if action == "quarantine":
            return [Quarantine(f"attachment: {unwanted.found}")]
        return [StripPart(unwanted.path, unwanted.found, None, unwanted.cause)]


def suffix_of(name: str) -> str:
    """What stands behind the last dot of a file name, lower case, as the system that opens the file sees it.

    Windows takes no notice of dots and blanks at the end; characters that show nothing, or turn the direction of writing, hide
    an end of the name from people's eyes.
    """
    shown = "".join(character for character in name if character.isprintable()).rstrip(". ")
    return shown.rpartition(".")[2].strip().lower() if "." in shown else ""


def _extent(root: Part) -> tuple[int, int]:
    """How many parts there are, and how many within each other."""
    count, deepest = 0, 0
    waiting = [(root, 1)]
    while waiting:
        part, depth = waiting.pop()
        count += 1
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in part.children]
    return count, deepest

"""What tests of scripts share: an outside that answers from dictionaries, and a run in one line."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from filters.sieve.actions import Result
from filters.sieve.interpreter import run
from filters.sieve.limits import DEFAULT_LIMITS, Limits
from filters.sieve.ports import Envelope, Owner, Surroundings
from filters.sieve.script import Script, compile_script

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAIL = (
    b"From: Alice <alice@example.net>\r\nTo: bob+work@example.org\r\nSubject: Hello\r\n"
    b"Message-ID: <1@example.net>\r\nDate: Fri, 2 Jan 2026 03:04:05 +0000\r\n\r\nText.\r\n"
)
AROUND = Surroundings(Envelope("alice@example.net", "bob+work@example.org"), Owner(("bob@example.org",), "Bob"))


@dataclass
class Outside:
    """Answers, and how often each was asked for."""

    mailboxes: set[str] = field(default_factory=lambda: {"INBOX", "Junk"})
    mailbox_ids: set[str] = field(default_factory=set)
    special_uses: dict[str, str] = field(default_factory=dict)  # attribute in lower case -> mailbox
    annotations: dict[tuple[str | None, str], str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    lists: dict[str, set[str]] = field(default_factory=dict)
    scripts: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def mailbox_exists(self, name: str) -> bool:
        """Whether it is one of ours."""
        self.asked.append(name)
        return name in self.mailboxes

    async def mailbox_id_exists(self, mailbox_id: str) -> bool:
        """Whether it is one of ours."""
        return mailbox_id in self.mailbox_ids

    async def special_use_exists(self, mailbox: str | None, attribute: str) -> bool:
        """Whether that mailbox, or any, has it."""
        found = self.special_uses.get(attribute.lower())
        return found is not None and mailbox in (None, found)

    async def metadata(self, mailbox: str | None, annotation: str) -> str | None:
        """The annotation."""
        return self.annotations.get((mailbox, annotation))

    async def is_duplicate(self, handle: str, unique_id: str) -> bool:
        """Whether it was seen."""
        return unique_id in self.seen

    async def first_in_list(self, name: str, values: Sequence[str]) -> str | None:
        """The first that is in the list."""
        self.asked.append(name)
        return next((value for value in values if value in self.lists.get(name, ())), None)

    async def list_exists(self, name: str) -> bool:
        """Whether there is one."""
        return name in self.lists

    async def script(self, name: str, location: str) -> Script | None:
        """The script, compiled."""
        source = self.scripts.get((location, name))
        return None if source is None else compile_script(source, name=name)

    async def can_notify(self, uri: str) -> bool:
        """Only this one."""
        return uri == "https://example.org/hook"


def result(
    source: str | Sequence[str],
    mail: bytes = MAIL,
    *,
    outside: Outside | None = None,
    around: Surroundings = AROUND,
    limits: Limits = DEFAULT_LIMITS,
    **changes: object,
) -> Result:
    """What scripts come to. Changes are fields of Surroundings."""
    sources = [source] if isinstance(source, str) else source
    scripts = [compile_script(each, name=f"script{at}", limits=limits) for at, each in enumerate(sources)]
    around = replace(around, **changes)  # type: ignore[arg-type]
    return asyncio.run(run(scripts, mail, around, outside or Outside(), now=NOW, limits=limits, is_traced=True))


def holds(test: str, mail: bytes = MAIL, *, needs: Sequence[str] = (), **more: object) -> bool:
    """Whether a test holds."""
    required = ", ".join(f'"{name}"' for name in ("fileinto", *needs))
    found = result(f'require [{required}];\nif {test} {{ fileinto "yes"; }}', mail, **more)  # type: ignore[arg-type]
    assert found.error is None, found.error
    return any(getattr(action, "mailbox", "") == "yes" for action in found.actions)

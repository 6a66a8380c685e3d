"""The message that is asked about, with what a session would know of it: from a file, or as it once came in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from daemons.context import Context
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.message import address_list, header
from protocol.message.header import Field
from storage import journal, messages, traces
from storage.errors import NotFoundError
from storage.pool import reported

_PATH = re.compile(rb"<([^<>\r\n]*)>")
_FROM_CLAUSE = re.compile(rb"from[ \t]+(\S+)(?:[ \t]+\(\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]\))?", re.IGNORECASE)
_LITERAL = re.compile(rb"\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]", re.IGNORECASE)
_FOR_CLAUSE = re.compile(rb"[ \t\n]for[ \t]+<([^<>\s]+)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Given:
    """A message and its envelope."""

    octets: bytes
    peer: str = ""  # IP address; "": nobody knows, and then the envelope filters are not asked
    helo: str = ""
    reverse_path: AddrSpec | None = None
    forward_paths: tuple[AddrSpec, ...] = ()
    login: str = ""  # who submitted it
    is_secure: bool = False
    trace_id: str = "0" * 16
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def read_file(octets: bytes, hostname: str) -> Given:
    """A file's message. One that this host has stored before is taken as it came: its trace fields say how.

    Where nothing says who sent it, its author did.
    """
    octets = octets if b"\r\n" in octets[:1000] else octets.replace(b"\n", b"\r\n")
    found = list(header.fields(octets[: header.MAX_HEADER_OCTETS]))
    given = Given(octets, reverse_path=_author(found))
    for at, each in enumerate(found):
        name = each.name.lower()
        if name == b"return-path" and at == 0:
            given = replace(given, reverse_path=_address(_PATH.search(each.body)))
        elif name == b"received":
            if f"by {hostname} with".encode() not in each.body:
                break  # another host's: it is part of the message
            return _received(replace(given, octets=octets[each.end :]), header.unfold(each.body))
    return given


async def read_stored(context: Context, trace_id: str) -> Given:
    """A message that was accepted, by the id of our reply to it. Raises NotFoundError, StorageError."""
    async with reported():
        found = await traces.by_id(context.pool, context.keys, trace_id)
        rows = [row for trace in found for row in await _journaled(context, trace)]
    if not rows:
        if any(note.kind == "refused" for trace in found for note in trace.notes):
            raise NotFoundError(f"message {trace_id} was refused, and nothing of it was kept")
        raise NotFoundError(f"no message {trace_id}: traces and their ids are kept for trace.retention")
    envelopes = [msgspec.json.decode(row.envelope) for row in rows]
    first: dict[str, Any] = envelopes[0]
    paths = [path["address"] for envelope in envelopes for path in envelope["forward_paths"]]
    return Given(
        octets=await context.blobs.read(rows[0].content_id),
        peer=first["peer"],
        helo=first["helo"],
        reverse_path=parse_addr_spec(first["reverse_path"]) if first["reverse_path"] else None,
        forward_paths=addresses(dict.fromkeys(paths)),
        login=first.get("login") or "",
        is_secure=first["tls"] is not None,
        trace_id=trace_id,
        received_at=datetime.fromisoformat(first["received_at"]),
    )


def _author(found: Sequence[Field]) -> AddrSpec | None:
    """The first address of From."""
    bodies = [each.body for each in found if each.name.lower() == b"from"]
    named = [each for each in address_list.parse(header.unfold(bodies[0])) if each.host] if bodies else []
    try:
        return (
            parse_addr_spec(f"{(named[0].mailbox or b'').decode()}@{(named[0].host or b'').decode()}")
            if named
            else None
        )
    except (AddressError, UnicodeDecodeError):
        return None


def addresses(paths: "Sequence[str] | dict[str, None]") -> tuple[AddrSpec, ...]:
    """Of these spellings; <Postmaster>, which needs no domain, is left out. Raises AddressError."""
    return tuple(parse_addr_spec(path) for path in paths if "@" in path)


async def _journaled(context: Context, trace: traces.Trace) -> list[journal.Journaled]:
    """The journal's rows. Where the message still lies in a mailbox these are found at once."""
    placed = [note.facts for note in trace.notes if note.kind == "stored"]
    contents: list[int] = []
    async with context.pool.acquire() as connection:
        for facts in placed:
            content_id = await messages.content_of(connection, facts["mailbox_id"], facts["uid"])
            contents += [content_id] if content_id is not None else []
        at = trace.notes[0].at
        rows = await journal.of_transaction(connection, trace.tenant_id, trace.trace_id, at, contents)
        return rows or await journal.of_transaction(connection, trace.tenant_id, trace.trace_id, at)


def _received(given: Given, stamp: bytes) -> Given:
    """What our Received field says of the session: protocol.smtp.received writes it."""
    origin, recipient = _FROM_CLAUSE.match(stamp.strip()), _FOR_CLAUSE.search(stamp)
    if origin is None:
        return given
    literal = _LITERAL.fullmatch(origin[1])
    peer = origin[2] or (literal[1] if literal else b"")
    path = _address(recipient)
    return replace(
        given,
        peer=peer.decode(),
        helo=origin[1].decode("ascii", "replace"),
        forward_paths=() if path is None else (path,),
        is_secure=re.search(rb"[ \t]with[ \t]+\S*S(?:A)?[ \t]", stamp) is not None,
    )


def _address(match: re.Match[bytes] | None) -> AddrSpec | None:
    try:
        return parse_addr_spec(match[1].decode()) if match is not None and match[1] else None
    except (AddressError, UnicodeDecodeError):
        return None

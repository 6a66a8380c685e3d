"""Circles of mail that is sent on: each address that sends a message on leaves its Delivered-To on it, and does so once."""

import asyncio
from dataclasses import replace
from pathlib import Path

from daemons.smtp.authors import header_of
from daemons.smtp.transaction import Addressee, Forwarded
from protocol.address import AddrSpec
from protocol.domain import a_labels
from protocol.message.header import fields
from storage.accounts import split_address

_NAME = b"delivered-to"


def delivered_to(address: AddrSpec) -> bytes:
    """The field of who sends a message on. An address that not every host takes is not told: hops are counted as well."""
    field = f"Delivered-To: {address.local_part}@{a_labels(address.domain)}\r\n"
    return field.encode() if field.isascii() else b""


async def passed_by(original: bytes | Path, hostname: str) -> frozenset[str]:
    """Who has sent the message on from this host before, as `name_of` spells them. Raises OSError.

    Others write Delivered-To as well: a relay in front of us on top of all, or a provider from whom mail is collected. Ours
    has our Received right below it, and those of the hosts since then above.
    """
    header = header_of(original) if isinstance(original, bytes) else await asyncio.to_thread(header_of, original)
    if _NAME not in header.lower():
        return frozenset()
    by_us = f" by {hostname} ".encode().lower()
    names: set[str] = set()
    waiting: list[str] | None = None  # until the next Received says whose they are; None: there was none yet
    for field in fields(header):
        name = field.name.lower()
        if name == b"received":
            if waiting and by_us in b" ".join(field.body.split()).lower():
                names.update(waiting)
            waiting = []
        elif name == _NAME and waiting is not None:
            waiting.append(name_of(field.body.decode("utf-8", "replace").strip().strip("<>")))
    return frozenset(names)


def name_of(address: AddrSpec | str) -> str:
    """An address in the spelling in which it is stored."""
    return "@".join(split_address(str(address)))


def without_circles(forwarded: Forwarded, passed: frozenset[str]) -> Forwarded:
    """Without what an address would send on again: its account, if it has one, gets the message instead."""
    onward = tuple(each for each in forwarded.onward if name_of(each.forwarder) not in passed)
    kept = {each.recipient.account_id for each in forwarded.local}
    stayed = {
        each.account: Addressee(replace(each.rcpt, forward_path=each.forwarder), each.account)
        for each in forwarded.onward
        if each not in onward and each.account is not None and each.account.account_id not in kept
    }
    return replace(forwarded, local=(*forwarded.local, *stayed.values()), onward=onward)

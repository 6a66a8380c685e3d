"""QUOTA, RFC 9208: its commands and their grammar (§7), and its responses."""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.imap import response
from protocol.imap.command import Command
from protocol.imap.cursor import Cursor, expect_astring, expect_atom, expect_list, expect_number
from protocol.imap.names import expect_mailbox

_NUMBER64 = 2**63 - 1
STORAGE_OCTETS = 1024  # the unit of the resource STORAGE (RFC 9208 §5.1)

Resource = tuple[bytes, int, int]  # name, usage, limit


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    """GETQUOTA, RFC 9208 §4.1.1."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    """GETQUOTAROOT, RFC 9208 §4.1.2. The mailbox need not exist."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    """SETQUOTA, RFC 9208 §4.1.3. What is not among the limits has none any more."""

    root: bytes
    limits: tuple[tuple[bytes, int], ...]  # resource names in upper case


# getquota = "GETQUOTA" SP quota-root-name, quota-root-name = astring
def expect_getquota(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows GETQUOTA."""
    cursor.expect_space()
    return GetQuota(tag, expect_astring(cursor, "a quota root"))


# getquotaroot = "GETQUOTAROOT" SP mailbox
def expect_getquotaroot(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows GETQUOTAROOT."""
    cursor.expect_space()
    return GetQuotaRoot(tag, expect_mailbox(cursor))


# setquota      = "SETQUOTA" SP quota-root-name SP setquota-list
# setquota-list = "(" [setquota-resource *(SP setquota-resource)] ")"
def expect_setquota(cursor: Cursor, tag: bytes) -> Command:
    """Expect what follows SETQUOTA."""
    cursor.expect_space()
    root = expect_astring(cursor, "a quota root")
    cursor.expect_space()
    limits = expect_list(cursor, _setquota_resource, may_be_empty=True)
    if len({name for name, _ in limits}) < len(limits):
        cursor.refuse("a resource is named twice")
    return SetQuota(tag, root, limits)


# setquota-resource = resource-name SP resource-limit, resource-limit = number64
def _setquota_resource(cursor: Cursor) -> tuple[bytes, int]:
    name = expect_atom(cursor, "a resource").upper()
    cursor.expect_space()
    return name, expect_number(cursor, "a limit", most=_NUMBER64)


def quota_line(root: bytes, resources: Iterable[Resource]) -> bytes:
    """`* QUOTA root (STORAGE 10 512)`, RFC 9208 §4.2.1; what has no limit is left out by the caller.

    No line when nothing has one: quota-list has one resource at least (RFC 9208 §7), and Thunderbird drops who tells `()`.
    """
    words = [b"%b %d %d" % resource for resource in resources]
    return b"" if not words else response.line(b"QUOTA", response.astring(root), response.parenthesized(words))


def quotaroot_line(mailbox: bytes, roots: Iterable[bytes]) -> bytes:
    """`* QUOTAROOT mailbox root …`, RFC 9208 §4.2.2; the mailbox as mailbox_name() gave it."""
    return response.line(b"QUOTAROOT", mailbox, *map(response.astring, roots))

"""The mail transaction for leased recipients and one server: what the envelope says, as far as that server understands it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast

from daemons.relay.content import Content
from protocol.smtp.capabilities import Capabilities
from protocol.smtp.transmission import Recipient, Transaction
from storage.outbound import Leased


def transaction_of(
    leased: Sequence[Leased], content: Content, capabilities: Capabilities, now: datetime
) -> Transaction:
    """One message's recipients as one transaction, in their order."""
    first = leased[0]
    paths = [each.forward_path for each in leased]
    is_smtputf8 = first.is_smtputf8
    if is_smtputf8 and not capabilities.has_smtputf8:
        # It was announced, and may do without all the same (RFC 6531 §3.2).
        ascii_paths = [_ascii_path(each) for each in leased]
        if content.is_header_ascii and first.reverse_path.isascii() and all(path.isascii() for path in ascii_paths):
            is_smtputf8, paths = False, ascii_paths
    by = None if first.deliver_by is None else int((first.deliver_by - now).total_seconds())
    return Transaction(
        first.reverse_path,
        tuple(Recipient(path, each.notify, each.orcpt) for path, each in zip(paths, leased, strict=True)),
        size_octets=content.size_octets,
        body=content.body,
        is_smtputf8=is_smtputf8,
        is_requiretls=first.is_requiretls,
        ret=first.ret,
        envid=first.envid,
        deliver_by_seconds=by,
        deliver_by_mode=cast(Literal["N", "R", "NT", "RT"], first.deliver_by_mode or "N"),
        priority=first.priority or None,
    )


def _ascii_path(leased: Leased) -> str:
    """With its domain as an A-label."""
    local_part, at, domain = leased.forward_path.rpartition("@")
    return leased.forward_path if domain.isascii() else local_part + at + leased.domain

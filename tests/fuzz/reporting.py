"""Reports and bounces that others send, as the reader of watched mailboxes takes them up."""

from contextlib import suppress

from protocol.message.bounces import RECIPIENT_LIMIT, classify
from protocol.reports import ReportError, dmarc, mail, packing, tls


def bounce(octets: bytes) -> None:
    """Anything is a notification or none; what is found can be stored."""
    found = classify(octets)
    if found is None:
        return
    assert len(found.recipients) <= RECIPIENT_LIMIT
    for one in found.recipients:
        assert "\0" not in one.address + one.diagnostic + (one.remote_mta or "")
        (one.address + one.diagnostic).encode()


def report(octets: bytes) -> None:
    """Anything is a report, or refused in the one way there is; what is found can be stored."""
    with suppress(ReportError):
        aggregate = dmarc.read(packing.unpack(octets))
        assert aggregate.domain
        assert "\0" not in aggregate.organization + aggregate.report_id + "".join(aggregate.errors)
    with suppress(ReportError):
        found = tls.read(packing.unpack(octets))
        assert found.begins_at.tzinfo is not None
        assert all(policy.successes >= 0 for policy in found.policies)
    mail.read(octets)

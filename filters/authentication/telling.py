"""The results in the words of Authentication-Results, RFC 8601 §2.7."""

from filters.authentication.results import ArcResult, DkimResult, DmarcResult, Results, SpfResult
from filters.subject import Envelope
from protocol.authentication_results import Finding


def findings(results: Results, envelope: Envelope) -> list[Finding]:
    """One for each method and signature; a method that found nothing says so."""
    told = [_spf(results.spf, envelope)]
    if results.helo is not None:
        told.append(_spf(results.helo, envelope))
    told += [_dkim(each) for each in results.dkim] or [Finding("dkim", "none")]
    if results.arc.result != "none":
        told.append(_arc(results.arc, envelope))
    return [*told, _dmarc(results)]


def _spf(found: SpfResult, envelope: Envelope) -> Finding:
    if found.scope == "helo":
        return Finding("spf", found.result, [("smtp.helo", found.domain)], found.reason)
    sender = envelope.reverse_path
    identity = f"{sender.local_part}@{found.domain}" if sender is not None else found.domain
    is_plain = identity.isascii() and identity.isprintable()
    return Finding("spf", found.result, [("smtp.mailfrom", identity if is_plain else found.domain)], found.reason)


def _dkim(found: DkimResult) -> Finding:
    notes = [f"{found.key_bits}-bit key"] if found.key_bits else []
    notes += [note for note in (found.reason, found.advice, "testing" if found.is_testing else "") if note]
    return Finding(
        "dkim",
        found.result,
        [
            ("header.d", found.domain),
            ("header.s", found.selector),
            ("header.a", found.algorithm),
            ("header.b", found.signature),
        ],
        ", ".join(notes),
    )


def _arc(found: ArcResult, envelope: Envelope) -> Finding:
    """RFC 8617 §10.2: oldest-pass is 0 when the first message signature still holds."""
    if found.result != "pass":
        return Finding("arc", found.result, [("smtp.remote-ip", envelope.peer)], found.reason)
    oldest = 0 if found.oldest_pass == 1 else found.oldest_pass
    hops = " ".join(f"as[{each.instance}]: {each.domain}" for each in found.sets[-3:])
    return Finding("arc", "pass", [("header.oldest-pass", str(oldest)), ("smtp.remote-ip", envelope.peer)], hops)


def _dmarc(results: Results) -> Finding:
    found: DmarcResult = results.dmarc
    if not found.record_domain:
        return Finding("dmarc", found.result, [("header.from", found.author_domain)], found.reason)
    comment = f"p={found.published} dis={results.disposition}"
    if results.overrides:
        comment += f" override={results.overrides[-1].kind}"
    record = found.record_domain if found.record_domain != found.author_domain else ""
    properties = [("header.from", found.author_domain), ("polrec.p", found.published), ("polrec.domain", record)]
    return Finding("dmarc", found.result, properties, found.reason or comment)

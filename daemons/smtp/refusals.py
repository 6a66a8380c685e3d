"""Recipients that were refused at RCPT, in the delivery trace: to each tenant its own, once per transaction."""

from collections.abc import Sequence

from daemons.smtp.transaction import Origin, RefusedRecipient, Transaction
from daemons.traces import Recorder


def note_refusals(recorder: Recorder, transaction: Transaction, origin: Origin) -> None:
    """Record those of a transaction that is over, those with the same answer together."""
    told: dict[tuple[int, str, str], list[RefusedRecipient]] = {}
    for each in transaction.refused:
        answer = f"{each.reply.code} {each.reply.enhanced or ''} {' '.join(each.reply.lines)}"
        told.setdefault((each.tenant_id, answer, each.reason), []).append(each)
    for (tenant_id, answer, reason), refused in told.items():
        facts = _facts(transaction, origin, refused)
        recorder.note(tenant_id, transaction.trace_id, "refused", **facts, reply=answer, reason=reason)


def _facts(transaction: Transaction, origin: Origin, refused: Sequence[RefusedRecipient]) -> dict[str, object]:
    facts: dict[str, object] = {
        "protocol": origin.protocol,
        "reverse_path": str(transaction.mail.reverse_path or ""),
        "forward_paths": list(dict.fromkeys(str(each.rcpt.forward_path) for each in refused)),
        "peer": origin.peer,
        "helo": origin.helo,
    }
    if origin.tls is not None:
        facts["tls"] = " ".join(origin.tls)
    if origin.identity is not None:
        facts["login"] = origin.identity.login
    return facts

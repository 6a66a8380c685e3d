"""The envelope filter `policy`: what a policy service of its own process says, over Postfix's policy delegation protocol."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from filters.ports import OnFailure
from filters.subject import Envelope
from filters.verdict import AddField, Drop, Quarantine, Refuse, Verdict
from protocol.smtp.policy_delegation import Action


class PolicyService(Protocol):
    """Whoever answers."""

    async def ask(self, attributes: Mapping[str, str]) -> Action:
        """One question. Raises OSError without an answer, PolicyError for one that says nothing."""


class Policy:
    """The filter."""

    name = "policy"
    on_failure: OnFailure = "pass"

    def __init__(self, service: PolicyService, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds + 1.0
        self._service = service

    async def check(self, subject: Envelope) -> Sequence[Verdict]:
        """Ask about one recipient, and do as told."""
        action = await self._service.ask(attributes_of(subject))
        match action:
            case Action(kind="refuse", reply=answer) if answer is not None:
                return [Refuse(answer, f"policy service: {action.reason}")]
            case Action(kind="prepend", field=(name, value)):
                return [AddField(name, value)]
            case Action(kind="discard"):
                return [Drop(f"policy service: {action.reason}")]
            case Action(kind="hold"):
                return [Quarantine(f"policy service: {action.reason}")]
        return ()


def attributes_of(subject: Envelope) -> dict[str, str]:
    """What Postfix would tell of a recipient."""
    return {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": subject.peer.partition("%")[0],
        "client_name": "unknown",
        "reverse_client_name": "unknown",
        "helo_name": subject.helo,
        "sender": str(subject.reverse_path or ""),
        "recipient": str(subject.forward_paths[-1]) if subject.forward_paths else "",
        "recipient_count": "0",
        "instance": subject.transaction_id,
        "size": "0",
        "encryption_protocol": "TLS" if subject.is_secure else "",
        "sasl_username": subject.login,
    }

"""The form of an Authenticated Received Chain, RFC 8617 §4 and §5.2: its sets, in order, and what each seal covers."""

import re
from collections import defaultdict
from dataclasses import dataclass

from protocol.dkim.verification import SignatureError, SignatureField, SignedHeader, parse, relaxed
from protocol.message.header import RawField

SETS_LIMIT = 50  # RFC 8617 §4.2.1
_RESULTS, _MESSAGE, _SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_NAMES = (_RESULTS, _MESSAGE, _SEAL)  # in the order in which a seal covers them
_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*;")
_TAG = re.compile(rb"(?:^|;)[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*(?:;|$)")


class ChainError(Exception):
    """The chain is broken. The text says why."""


@dataclass(frozen=True, slots=True)
class ChainSet:
    """One hop."""

    results: RawField
    message_field: RawField
    message: SignatureField | SignatureError  # only the last one has to be sound
    seal: SignatureField

    @property
    def authentication_results(self) -> str:
        """What that hop found out: the body behind i=, on one line."""
        body = self.results[1]
        found = _INSTANCE.match(body)
        return b" ".join(body[found.end() if found else 0 :].split()).decode("utf-8", "replace")


def read_chain(header: SignedHeader, *, at: float) -> list[ChainSet]:
    """The sets, the first hop first; none: there is no chain. Raises ChainError."""
    found: dict[int, dict[bytes, RawField]] = defaultdict(dict)
    for name in _NAMES:
        for field in header.named(name):
            match = (_INSTANCE.match if name == _RESULTS else _TAG.search)(field[1])
            instance = int(match[1]) if match else 0
            if not 0 < instance <= SETS_LIMIT:
                raise ChainError("an instance that cannot be")
            if name in found[instance]:
                raise ChainError(f"instance {instance} is there twice")
            found[instance][name] = field
    if [len(found[instance]) for instance in range(1, len(found) + 1)] != [len(_NAMES)] * len(found):
        raise ChainError("not all sets are whole")
    return [_set(instance, found[instance], at) for instance in range(1, len(found) + 1)]


def sealed_fields(chain: list[ChainSet], instance: int) -> list[bytes]:
    """What the seal of that instance covers before itself, canonical (RFC 8617 §5.1.1)."""
    fields = [field for each in chain[:instance] for field in (each.results, each.message_field, each.seal.field)]
    return [relaxed(field) for field in fields[:-1]]


def _set(instance: int, fields: dict[bytes, RawField], at: float) -> ChainSet:
    try:
        seal = parse("seal", fields[_SEAL], at=at)
    except SignatureError as error:
        raise ChainError(f"seal {instance}: {error.reason}") from None
    if seal.instance != instance:
        raise ChainError(f"seal {instance} has another instance")
    wanted = "none" if instance == 1 else "pass"
    if seal.chain_validation != wanted:
        raise ChainError(f"seal {instance} says cv={seal.chain_validation}")
    message: SignatureField | SignatureError
    try:
        message = parse("message", fields[_MESSAGE], at=at)
    except SignatureError as error:
        message = error
    return ChainSet(fields[_RESULTS], fields[_MESSAGE], message, seal)

"""DKIM, RFC 6376: every signature of a message, with keys that are asked for at the same time."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass

from filters.authentication.message import SignedMessage, key_of
from filters.authentication.results import DkimResult
from filters.ports import Resolver
from protocol.dkim.body import BodyForm
from protocol.dkim.verification import (
    RECOMMENDED_RSA_BITS,
    PublicKey,
    SignatureError,
    SignatureField,
    check_body,
    check_header,
    parse,
)

SIGNATURES = 10  # of one message that are looked at, the topmost first (RFC 6376 §6.1 allows a limit); ours
_SHOWN = 8  # characters of b=, RFC 6008 §4


@dataclass(frozen=True, slots=True)
class Claims:
    """What the DKIM-Signature fields of a message say."""

    signatures: tuple[SignatureField | DkimResult, ...]  # a result: that one cannot be read


def read_claims(message: SignedMessage, *, at: float) -> Claims:
    """The signatures of a message, from the top; `at` in seconds since 1970."""
    found: list[SignatureField | DkimResult] = []
    for field in message.header.named(b"dkim-signature")[:SIGNATURES]:
        try:
            found.append(parse("dkim", field, at=at))
        except SignatureError as error:
            found.append(DkimResult(error.word, reason=error.reason))
    return Claims(tuple(found))


def forms(claims: Claims) -> set[BodyForm]:
    """The hashes of the body that are wanted."""
    return {each.body for each in claims.signatures if isinstance(each, SignatureField)}


async def verify(resolver: Resolver, message: SignedMessage, claims: Claims) -> tuple[DkimResult, ...]:
    """One result for each signature, in their order."""
    await message.hash(forms(claims))
    if len(claims.signatures) == 1:
        return (await _verified(resolver, message, claims.signatures[0]),)
    return tuple(await asyncio.gather(*(_verified(resolver, message, each) for each in claims.signatures)))


async def _verified(resolver: Resolver, message: SignedMessage, claim: SignatureField | DkimResult) -> DkimResult:
    if isinstance(claim, DkimResult):
        return claim
    key: PublicKey | None = None
    try:
        check_body(claim, message.digest(claim.body))  # without a question to the DNS
        key = await key_of(resolver, claim)
        check_header(claim, key, message.header)
    except SignatureError as error:
        return _result(claim, key, error)
    except TimeoutError:
        return _result(claim, None, None, is_temporary=True)
    return _result(claim, key, None)


def _result(
    claim: SignatureField, key: PublicKey | None, error: SignatureError | None, *, is_temporary: bool = False
) -> DkimResult:
    advice = ""
    if key is not None and claim.algorithm == "rsa" and key.bits < RECOMMENDED_RSA_BITS:
        advice = f"a key of {key.bits} bits: {RECOMMENDED_RSA_BITS} are recommended"  # RFC 8301 §3.2
    return DkimResult(
        result="temperror" if is_temporary else "pass" if error is None else error.word,
        domain=claim.domain,
        selector=claim.selector,
        identity=claim.identity,
        algorithm=f"{claim.algorithm}-sha256",
        key_bits=key.bits if key is not None else 0,
        signature=base64.b64encode(claim.signature[:_SHOWN]).decode()[:_SHOWN],
        reason="no answer from the DNS" if is_temporary else error.reason if error is not None else "",
        is_testing=key is not None and key.is_testing,
        covers_part=claim.body.length is not None,
        advice=advice,
    )


def passing_domains(results: Sequence[DkimResult]) -> list[str]:
    """Domains that have signed, each once."""
    return list(dict.fromkeys(each.domain for each in results if each.result == "pass"))

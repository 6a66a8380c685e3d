"""ARC, RFC 8617 §5.2: whether the chain of those who passed a message on is whole. Nothing is sealed here."""

import asyncio
from typing import TypeAlias

from filters.authentication.message import SignedMessage, key_of
from filters.authentication.results import NO_ARC, ArcResult, ArcSet
from filters.ports import Resolver
from protocol.dkim.body import BodyForm
from protocol.dkim.chain import ChainError, ChainSet, read_chain, sealed_fields
from protocol.dkim.verification import (
    PublicKey,
    SignatureError,
    SignatureField,
    check_body,
    check_header,
    check_signed,
)

_TEXT = 1000  # characters of what a hop has written

_KeyName: TypeAlias = tuple[str, str]  # where it is, and the algorithm that it is for
_Keys: TypeAlias = dict[_KeyName, PublicKey | SignatureError]


def read(message: SignedMessage, *, at: float) -> list[ChainSet] | ArcResult:
    """The chain of a message, or the result when it has none that can be verified."""
    try:
        chain = read_chain(message.header, at=at)
    except ChainError as error:
        return ArcResult("fail", reason=str(error))
    return chain or NO_ARC


def forms(chain: list[ChainSet] | ArcResult) -> set[BodyForm]:
    """The hash of the body that is wanted, if any: that of the last signature."""
    last = chain[-1].message if isinstance(chain, list) else None
    return {last.body} if isinstance(last, SignatureField) else set()


async def verify(resolver: Resolver, message: SignedMessage, chain: list[ChainSet] | ArcResult) -> ArcResult:
    """The result for the chain as a whole."""
    if isinstance(chain, ArcResult):
        return chain
    await message.hash(forms(chain))
    names = {_name(signature): signature for signature in _wanted(chain)}
    keys = dict(zip(names, await asyncio.gather(*(_key(resolver, each) for each in names.values())), strict=True))
    try:
        _check_message(message, chain[-1], keys)
        for each in reversed(chain):
            _check_seal(chain, each, keys)
    except SignatureError as error:
        return ArcResult("fail", reason=error.reason)
    return ArcResult(
        "pass",
        tuple(
            ArcSet(each.seal.instance, each.seal.domain, each.seal.selector, each.authentication_results[:_TEXT])
            for each in chain
        ),
        oldest_pass=await _oldest_pass(resolver, message, chain),
    )


def _wanted(chain: list[ChainSet]) -> list[SignatureField]:
    last = chain[-1].message
    return [*([last] if isinstance(last, SignatureField) else []), *(each.seal for each in chain)]


def _name(signature: SignatureField) -> _KeyName:
    return signature.key_name, signature.algorithm


async def _key(resolver: Resolver, signature: SignatureField) -> PublicKey | SignatureError:
    try:
        return await key_of(resolver, signature)
    except SignatureError as error:
        return error
    except TimeoutError:
        return SignatureError("fail", "no answer from the DNS")


def _check_message(message: SignedMessage, each: ChainSet, keys: _Keys) -> None:
    signature = each.message
    if isinstance(signature, SignatureError):
        raise SignatureError("fail", f"message signature {each.seal.instance}: {signature.reason}")
    try:
        check_body(signature, message.digest(signature.body))
        check_header(signature, _usable(keys[_name(signature)]), message.header)
    except SignatureError as error:
        raise SignatureError("fail", f"message signature {each.seal.instance}: {error.reason}") from None


def _check_seal(chain: list[ChainSet], each: ChainSet, keys: _Keys) -> None:
    instance = each.seal.instance
    try:
        check_signed(each.seal, _usable(keys[_name(each.seal)]), sealed_fields(chain, instance))
    except SignatureError as error:
        raise SignatureError("fail", f"seal {instance}: {error.reason}") from None


def _usable(key: PublicKey | SignatureError) -> PublicKey:
    if isinstance(key, SignatureError):
        raise key
    return key


async def _oldest_pass(resolver: Resolver, message: SignedMessage, chain: list[ChainSet]) -> int:
    """The first instance since which nobody has changed the message; the last signature is known to hold."""
    oldest, last = len(chain), chain[-1].message
    for each in reversed(chain[:-1]):
        signature = each.message
        if isinstance(signature, SignatureError) or isinstance(last, SignatureError) or signature.body != last.body:
            break  # the body is hashed in one form alone
        try:
            _check_message(message, each, {_name(signature): await _key(resolver, signature)})
        except SignatureError:
            break
        oldest = each.seal.instance
    return oldest

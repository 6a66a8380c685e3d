"""One SASL exchange of a session, whatever the protocol: IMAP, POP3, submission, ManageSieve.

    exchange = authenticator.exchange(name, origin)          # None: the mechanism is not offered here
    outcome = await exchange.step(initial or None)           # Challenge: send it, step() again with the response
    ...                                                      # Identity: the client has logged in

step() raises sasl.SaslError for a message that breaks the grammar (and CancelledError for "*", by decode_response),
DeniedError for a login that failed, ActingError for one that wants to act for another, StorageError.
"""

from typing import TYPE_CHECKING

from daemons.authentication.identity import ActingError, DeniedError, Identity, Origin
from protocol import sasl

if TYPE_CHECKING:
    from daemons.authentication.authenticator import Authenticator, Challenged


class Exchange:
    """Asks the mechanism what comes next, and the authenticator what is true."""

    def __init__(self, authenticator: "Authenticator", name: bytes, mechanism: sasl.Mechanism, origin: Origin) -> None:
        self._authenticator = authenticator
        self._name = name.decode()
        self._mechanism = mechanism
        self._origin = origin
        self._challenged: Challenged | None = None
        self._identity: Identity | None = None
        self._is_refused = False

    @property
    def is_proven(self) -> bool:
        """Whether the last challenge was the mechanism's final message, to a client that has proven itself.

        Where the protocol can carry it with the success, step(b"") then gives the Identity without a round trip.
        """
        return self._identity is not None

    async def step(self, response: bytes | None) -> sasl.Challenge | Identity:
        """Take the client's next response; None when it has sent none with the command."""
        if self._is_refused:
            raise DeniedError  # whatever it is: the client has acknowledged the reason
        if self._identity is not None:
            if response:
                raise sasl.SaslError("expected an empty response")
            return self._identity
        if self._challenged is not None:
            await self._authenticator.wait_for_turn(self._challenged, self._origin)
        try:
            step = self._mechanism.step(response)
        except sasl.ProofError:
            assert self._challenged is not None, "only a proof can be wrong"
            self._authenticator.disproven(self._challenged, self._origin, self._name)
            raise DeniedError from None
        return await self._follow(step)

    async def _follow(self, step: sasl.Step) -> sasl.Challenge | Identity:
        if isinstance(step, sasl.Challenge):
            return step
        if isinstance(step, sasl.Token):
            return await self._judge(step)
        if not step.acts_as_itself:
            raise ActingError
        match step:
            case sasl.Credentials(_, authcid, password):
                verify = self._authenticator.verify
                identity = await verify(authcid, password, self._origin, mechanism=self._name)
                if identity is None:
                    raise DeniedError
                return identity
            case sasl.Lookup(_, authcid):
                assert isinstance(self._mechanism, sasl.Scram)
                self._challenged = await self._authenticator.challenge(authcid, self._origin)
                found = self._challenged
                return self._mechanism.supply(found.verifier.salt, found.verifier.iterations, found.keys)
            case sasl.Proven(_, _, index, server_final):
                assert self._challenged is not None, "a proof is of a challenge"
                self._identity = self._authenticator.proven(self._challenged, index, self._origin)
                return sasl.Challenge(server_final)

    async def _judge(self, step: sasl.Token) -> sasl.Challenge | Identity:
        identity = await self._authenticator.verify_token(step, self._origin, self._name)
        if identity is not None:
            return identity
        assert isinstance(self._mechanism, sasl.OauthBearer | sasl.Xoauth2)
        self._is_refused = True
        return self._mechanism.refusal(*self._authenticator.token_hint())

"""Settings of password verification, shared by IMAP, POP3 and submission."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.issuers import Issuer
from config.units import Octets, Seconds


class Authentication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How passwords are checked and how guessing is slowed."""

    concurrent_verifications: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Password hashes computed at once per process; others wait. Each takes one core and 19 MiB.",
        ),
    ] = 2
    cache_lifetime: Annotated[
        Seconds,
        Meta(
            description="How long a verified password is remembered (a keyed MAC in memory): polling costs no hash. "
            "A changed password or a disabled account ends it at once. 0 s turns it off."
        ),
    ] = Seconds(300)
    cache_entries: Annotated[int, Meta(ge=0, description="Verified passwords remembered at most, per process.")] = (
        20_000
    )
    failure_delay: Annotated[
        Seconds,
        Meta(
            description="Wait before the next attempt is judged after one failure of the same account or from the same "
            "network; doubles with every further failure. Trusted networks never wait."
        ),
    ] = Seconds(1)
    failure_delay_limit: Annotated[Seconds, Meta(description="The longest such wait.")] = Seconds(16)
    failure_memory: Annotated[
        Seconds,
        Meta(description="Failures older than this are forgotten; a success forgets those of the account at once."),
    ] = Seconds(900)
    failure_entries: Annotated[
        int, Meta(ge=1, description="Accounts and networks whose failures are remembered at most, per process.")
    ] = 50_000
    password_limit: Annotated[
        Octets, Meta(description="Longest password that is looked at; a longer one is a wrong one.")
    ] = Octets(1024)
    scram: Annotated[
        bool,
        Meta(
            description="Keep SCRAM-SHA-256 verifiers beside the argon2id hashes, and offer SCRAM. A verifier that is stolen "
            "is quicker to guess than an argon2id hash; a client with SCRAM never sends the password."
        ),
    ] = True
    app_password_limit: Annotated[
        int,
        Meta(ge=0, le=100, description="App passwords of one account. `postwerk app-password add` refuses more."),
    ] = 30
    attack_backlog: Annotated[
        int, Meta(ge=1, description="Failed logins that wait to be recorded, per process; more are counted only.")
    ] = 10_000
    issuers: Annotated[
        list[Issuer],
        Meta(description="Who issues tokens for OAUTHBEARER and XOAUTH2; without any, neither is offered."),
    ] = []
    token_cache_entries: Annotated[
        int, Meta(ge=0, description="Tokens remembered at most that an introspection said to be good, per process.")
    ] = 10_000

"""What TLS one host must show: what DANE, MTA-STS, REQUIRETLS and the configuration ask for, put together into a TlsPolicy.

Where TLSA records can be believed they decide what the certificate has to be, and MTA-STS only which hosts may be used: a policy
must not let pass what DANE refuses (RFC 8461 §2). Decides on values only; asks nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from config.routes import Route as Configured
from daemons.relay.tls_policy import Mode, TlsFailure, TlsPolicy
from protocol.dane import Tlsa, usable
from protocol.mta_sts import StsPolicy

_STRICTNESS: dict[Mode, int] = {"none": 0, "may": 1, "encrypt": 2, "verify": 3, "dane": 4}


@dataclass(frozen=True, slots=True)
class Demands:
    """What is the same for all hosts of a route."""

    minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    authority: str = ""  # for MTA-STS
    configured: Configured | None = None
    sts: StsPolicy | None = None
    is_secure: bool = False  # the host's name is authentic: an authenticated MX record, or our own configuration
    is_requiretls: bool = False
    ignores_tls: bool = False


@dataclass(frozen=True, slots=True)
class TlsaFound:
    """Authenticated TLSA records of a host."""

    records: tuple[Tlsa, ...] = ()  # all of them, whether or not they are usable
    base: str = ""  # the TLSA base domain that they were found at (RFC 7672 §2.2.2)


def demand(demands: Demands, host: str, found: TlsaFound, names: Sequence[str]) -> TlsPolicy:
    """The policy for a host; `names` are the next-hop domain's, which DANE-TA accepts besides the host's (RFC 7672 §3.2.3).

    Raises TlsFailure when nothing it could show would do.
    """
    configured = demands.configured
    mode: Mode = configured.tls if configured is not None else "may"
    if mode == "none" or (demands.ignores_tls and configured is None):
        if demands.is_requiretls:
            raise TlsFailure("validation-failure", "the message must stay in TLS, and TLS is not used with that host")
        return TlsPolicy(mode, server_name=_server_name(host), minimum=demands.minimum)
    policy = _configured(demands, host, mode)
    if not demands.ignores_tls and found.records:
        policy = _dane(demands, host, found, names)
    elif not demands.ignores_tls and demands.sts is not None:
        policy = _sts(demands, demands.sts, host, policy)
    if demands.is_requiretls:
        policy = _requiretls(demands, host, policy)
    return policy


def _server_name(host: str) -> str | None:
    return None if host.startswith("[") else host


def _configured(demands: Demands, host: str, mode: Mode) -> TlsPolicy:
    configured = demands.configured
    if configured is None:
        return TlsPolicy(mode, server_name=_server_name(host), minimum=demands.minimum)
    return TlsPolicy(
        mode,
        basis="route",
        starts_with_tls=configured.starts_with_tls,
        server_name=_server_name(host),
        names=tuple(configured.names) or (host.strip("[]").removeprefix("IPv6:"),),
        authority=configured.authority,
        minimum=demands.minimum,
    )


def _dane(demands: Demands, host: str, found: TlsaFound, names: Sequence[str]) -> TlsPolicy:
    _allowed(demands.sts, host)
    return TlsPolicy(
        "dane",
        basis="dane",
        server_name=found.base,  # RFC 7672 §8.1
        names=tuple(dict.fromkeys((found.base, *names, host))),
        tlsa=usable(found.records),
        minimum=demands.minimum,
        policy_type="tlsa",
        policy_strings=tuple(str(record) for record in found.records),
    )


def _allowed(sts: StsPolicy | None, host: str) -> TlsFailure | None:
    """What MTA-STS has against the host, told in testing mode and raised in the other."""
    if sts is None or sts.allows(host):
        return None
    failure = TlsFailure("validation-failure", "the domain's policy (MTA-STS) does not name this mail exchanger")
    if sts.mode == "enforce":
        raise failure
    return failure


def _sts(demands: Demands, sts: StsPolicy, host: str, policy: TlsPolicy) -> TlsPolicy:
    fault = _allowed(sts, host)
    is_testing = sts.mode == "testing"
    if is_testing and _STRICTNESS[policy.mode] > _STRICTNESS["may"]:
        return policy  # the configuration is kept to; whoever tests learns of sessions that only it governs
    return TlsPolicy(
        "verify",
        basis="mta-sts",
        server_name=host,
        names=(host,),
        authority=demands.authority,
        minimum=demands.minimum,
        is_testing=is_testing,
        policy_type="sts",
        policy_strings=sts.strings,
        mx_patterns=sts.mx,
        fault=fault,
    )


def _requiretls(demands: Demands, host: str, policy: TlsPolicy) -> TlsPolicy:
    """RFC 8689 §4.2.1: the host's name must be authentic, by DNSSEC or MTA-STS, and so must the host."""
    is_named = demands.is_secure or (demands.sts is not None and demands.sts.allows(host))
    if not is_named:
        raise TlsFailure(
            "validation-failure", "the message must stay in verified TLS, and nothing proves the host's name"
        )
    if policy.mode == "dane" and policy.tlsa:
        return replace(policy, needs_requiretls=True)
    return TlsPolicy(
        "verify",
        basis="requiretls",
        starts_with_tls=policy.starts_with_tls,
        server_name=policy.server_name,
        names=policy.names or (host,),
        authority=policy.authority or demands.authority,
        minimum=policy.minimum,
        needs_requiretls=True,
        policy_type=policy.policy_type,
        policy_strings=policy.policy_strings,
        mx_patterns=policy.mx_patterns,
    )

"""Whose scripts run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountOwner:
    """An account whose mail is filtered."""

    tenant_id: int
    account_id: int

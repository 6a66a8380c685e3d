"""Fixtures of this directory."""

import pytest

from daemons.authentication import (
    passwords,
)


@pytest.fixture(name="hashes")
def counted_hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every stored hash that is computed against, in order: the real function, only watched."""
    computed: list[str] = []
    matches = passwords.matches

    def watched(password_hash: str, secret: bytes) -> bool:
        computed.append(password_hash)
        return matches(password_hash, secret)

    monkeypatch.setattr(passwords, "matches", watched)
    return computed

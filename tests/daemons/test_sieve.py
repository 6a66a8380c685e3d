"""The section [sieve] and what the interpreter makes of it."""

import msgspec
import pytest

from config.sieve import Sieve
from daemons.sieve import capabilities_of, limits_of
from filters.sieve.limits import DEFAULT_LIMITS
from filters.sieve.script import ALL, compile_script
from protocol.sieve.errors import SieveError


def test_defaults_are_those_of_the_interpreter() -> None:
    """What is not configured is what the interpreter does by itself."""
    assert limits_of(Sieve()) == DEFAULT_LIMITS
    assert capabilities_of(Sieve()) == ALL


def test_capabilities_can_be_taken_away() -> None:
    """A script that requires one of them is refused."""
    allowed = capabilities_of(Sieve(without=["editheader"]))
    with pytest.raises(SieveError, match='unknown capability "editheader"'):
        compile_script('require ["fileinto", "editheader"];', capabilities=allowed)


@pytest.mark.parametrize(
    "wrong", [{"variable_octets": 100}, {"vacation_usual": 1}, {"duplicate_usual": 86_400 * 365}, {"nesting": 2}]
)
def test_bad_limits_are_refused(wrong: dict[str, int]) -> None:
    """Limits below what the standards ask for, or that contradict each other."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Sieve, strict=False)

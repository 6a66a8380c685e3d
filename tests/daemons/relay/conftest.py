"""Fixtures of the relay's tests."""

from collections.abc import AsyncIterator

import pytest

from daemons.context import Context
from tests.conftest import Owner, Person
from tests.daemons.relay.world import World, open_world


@pytest.fixture
async def world(context: Context, account: Person, owner: Owner) -> AsyncIterator[World]:
    """Names, mail servers and a queue; alice@example.test sends."""
    async with open_world(context, account, owner) as opened:
        yield opened

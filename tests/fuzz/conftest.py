"""Services for whole sessions of fuzzed commands: as everywhere, but patient with errors, and quick after failed logins."""

import ssl
from collections.abc import AsyncIterator

import msgspec
import pytest

from config.imap import Imap
from config.pop3 import Pop3
from config.settings import Settings
from config.units import Seconds
from daemons.context import Context
from tests.conftest import Person
from tests.daemons.imap.conftest import Service, running


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing waits, so that only commands decide what happens."""
    return msgspec.structs.replace(
        settings,
        imap=Imap(error_limit=60, login_failure_limit=10, command_burst=100_000, metadata_entries=10),
        pop3=Pop3(error_limit=60, login_failure_limit=10, login_delay=Seconds(0)),
        authentication=msgspec.structs.replace(settings.authentication, failure_delay=Seconds(0)),
    )


@pytest.fixture
async def service(context: Context, account: Person, client_tls: ssl.SSLContext) -> AsyncIterator[Service]:
    """The access process."""
    async with running(context) as endpoints:
        yield Service(context, endpoints, account, client_tls)

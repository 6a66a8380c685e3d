"""What is asked of the database, for tests of what something costs."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemons.context import Context
from tests.hearing import until_heard

# What rules, lists and the spam filter know: nobody reads it for mail that none of it concerns.
_OF_RULES = re.compile(
    r"\b(?:sieve_\w+|simple_settings|annotation|spam_\w+|listed_sender|address_list\w*|greylist|rate|memory|quarantine\w*"
    r"|notification\w*|outbound_return)\b"
)
_OF_THE_DRIVER = re.compile(r"typeinfo|set_config\('jit'")


@asynccontextmanager
async def statements(context: Context) -> AsyncIterator[list[str]]:
    """The statements of the process while the body runs, without those of the delivery trace, which is written apart.

    What changes is heard of by then, so that whatever is remembered stays.
    """
    await until_heard(context)
    await context.recorder.flush()
    found: list[str] = []
    connections = [await context.pool.acquire() for _ in range(context.settings.database.pool_size)]
    for connection in connections:
        connection.add_query_logger(lambda record: found.append(" ".join(record.query.split())))
    for connection in connections:
        await context.pool.release(connection)
    yield found
    found[:] = [each for each in found if not _OF_THE_DRIVER.search(each)]


def of_rules(asked: list[str]) -> list[str]:
    """Those that read or write what only rules need."""
    return [each for each in asked if _OF_RULES.search(each)]

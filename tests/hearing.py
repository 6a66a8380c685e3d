"""What other processes changed is heard of a little later: tests of what is known, or remembered, wait for it."""

import asyncio
import itertools

from daemons.context import Context
from storage.notifications import SCRIPTS

_nobody = itertools.count(1 << 60)  # accounts that there are not: what is known of them may be forgotten


async def until_heard(context: Context) -> None:
    """Return when the process has heard of everything that was committed so far: notifications come in that order."""
    nobody = next(_nobody)
    heard: asyncio.Queue[int] = asyncio.Queue()
    end = context.changes.subscribe_scripts(heard.put_nowait)
    try:
        async with asyncio.timeout(30):
            account_id = 0
            while account_id != nobody:  # 0: the connection is a new one, and our notification may be lost
                while not context.changes.is_connected:
                    await asyncio.sleep(0)
                await context.pool.execute("SELECT pg_notify($1, $2)", SCRIPTS, str(nobody))
                while (account_id := await heard.get()) not in (0, nobody):
                    pass
    finally:
        end()

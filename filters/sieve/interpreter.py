"""Runs a compiled script over one message, for one recipient."""

import mmap
from datetime import datetime

from filters.sieve.actions import Result
from filters.sieve.limits import DEFAULT_LIMITS, Limits
from filters.sieve.ports import Ports, Surroundings
from filters.sieve.script import Script


async def run(
    script: Script,
    octets: bytes | mmap.mmap,
    surroundings: Surroundings,
    ports: Ports,
    *,
    now: datetime,
    limits: Limits = DEFAULT_LIMITS,
    is_traced: bool = False,
) -> Result:
    """Run. A mistake of the script is in Result.error; only what the ports raise is raised."""
    raise NotImplementedError

"""Keys of a domain for tests, their records in the DNS of the tests, and the verdict of Mail::DKIM, an independent verifier."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import date

import dkim
import pytest

from daemons.context import Context
from daemons.signing_keys import add_new_key, records_of
from storage import signing
from tests.conftest import Owner
from tests.internet.dns import NameServer

ALGORITHMS = ["rsa-sha256", "ed25519-sha256"]
TODAY = date(2026, 11, 22)  # what selectors are named after

# Reads a message, prints "algorithm result" for each signature; asks the name server whose port it is given.
VERIFIER = """
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $ARGV[0], recurse => 1));
my $dkim = Mail::DKIM::Verifier->new; binmode STDIN;
while (my $line = <STDIN>) { $line =~ s/\\r?\\n$/\\r\\n/; $dkim->PRINT($line); }
$dkim->CLOSE;
for my $signature ($dkim->signatures) { print $signature->algorithm, " ", $signature->result_detail, "\\n"; }
"""


def _has_mail_dkim() -> bool:
    try:
        return subprocess.run(["perl", "-MMail::DKIM::Verifier", "-e", "1"], capture_output=True).returncode == 0
    except OSError:
        return False


needs_mail_dkim = pytest.mark.skipif(
    not _has_mail_dkim(), reason="Mail::DKIM is missing: apt-get install libmail-dkim-perl"
)


async def verify(names: NameServer, message: bytes) -> list[str]:
    """What Mail::DKIM says of each signature: "rsa-sha256 pass"."""
    verifier = await asyncio.create_subprocess_exec(
        *("perl", "-e", VERIFIER, names.address.rpartition(":")[2]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await verifier.communicate(message)
    assert verifier.returncode == 0
    return told.decode().splitlines()


async def pieces_of(octets: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    """A message as it is read."""
    for at in range(0, len(octets), size):
        yield octets[at : at + size]


async def make_keys(context: Context, owner: Owner, domain: str, *, is_active: bool = True) -> None:
    """Both keys of a domain."""
    for algorithm in ALGORITHMS:
        await add_new_key(
            owner, context.keys, context.settings.dkim, domain, algorithm, is_delegated=False, today=TODAY
        )
    if is_active:
        for row in await signing.list_keys(owner, domain):
            if row.state == "published":
                await signing.activate(owner, row.key_id)


async def publish(names: NameServer, context: Context, owner: Owner, domain: str) -> dict[str, str]:
    """Put the records of a domain's keys into the DNS. Returns what they say, by name."""
    records = records_of(context.settings.dkim, domain, await signing.list_keys(owner, domain))
    for record in records:
        text = f'"{record.value[:255]}" "{record.value[255:]}"' if record.kind == "TXT" else f"{record.value}."
        names.add(record.name, record.kind, text)
    return {record.name: record.value for record in records}


def dkimpy_verifies(texts: dict[str, str], message: bytes) -> bool:
    """Whether both signatures hold for dkimpy as it comes, with these records."""
    results = [
        dkim.DKIM(message).verify(index, dnsfunc=lambda name, timeout: texts[name.decode().rstrip(".")].encode())
        for index in range(2)
    ]
    return results == [True, True]

"""The name server of the tests: a resolver on the loopback, over UDP and TCP, that knows what it was told and fails as it was told.

    async with name_server() as names:
        names.add("example.net", "MX", "10 mx.example.net.")
        names.add("mx.example.net", "A", "127.0.0.2")
        names.secure("example.net")                      # answers about it and what is below have the AD flag
        names.fail("broken.example.net", "TLSA")         # SERVFAIL
        settings: [transport] resolvers = [names.address]

A name that nothing was told about does not exist. CNAMEs are followed, as resolvers do.
"""

import asyncio
import contextlib
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_CNAME_LIMIT = 12
_NEGATIVE_TTL = 60


class NameServer:
    """Made by name_server()."""

    def __init__(self) -> None:
        self.address = ""  # "127.0.0.1:port"
        self.asked: Counter[tuple[str, str]] = Counter()  # (name, type) -> how often it was asked
        self.is_down = False  # nothing is answered at all
        self._records: dict[str, dict[str, dns.rrset.RRset]] = defaultdict(dict)
        self._secure: set[str] = set()
        self._failing: dict[tuple[str, str], dns.rcode.Rcode | None] = {}
        self._held: dict[tuple[str, str], asyncio.Event] = {}
        self._truncated: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, kind: str, *texts: str, ttl: int = 300) -> None:
        """Give a name records of one type, in the presentation form of zone files, in place of those it had."""
        owner = dns.name.from_text(name)
        rrset = dns.rrset.from_text_list(owner, ttl, "IN", kind, list(texts))
        self._records[_key(name)][kind] = rrset

    def remove(self, name: str, kind: str | None = None) -> None:
        """Forget the records of one type, or of all."""
        if kind is None:
            self._records.pop(_key(name), None)
        else:
            self._records[_key(name)].pop(kind, None)

    def secure(self, *zones: str) -> None:
        """From now on answers about these names and those below are authenticated by DNSSEC."""
        self._secure |= {_key(zone) for zone in zones}

    def fail(self, name: str, kind: str, rcode: dns.rcode.Rcode | None = dns.rcode.SERVFAIL) -> None:
        """Answer with an error, as for what is bogus; None: answer nothing."""
        self._failing[_key(name), kind] = rcode

    def mend(self, name: str, kind: str) -> None:
        """Answer again."""
        self._failing.pop((_key(name), kind), None)

    def hold(self, name: str, kind: str) -> asyncio.Event:
        """Delay answers to this question until the event is set."""
        return self._held.setdefault((_key(name), kind), asyncio.Event())

    def truncate(self, name: str, kind: str) -> None:
        """Over UDP, say only that the answer is too long: it has to be asked for over TCP."""
        self._truncated.add((_key(name), kind))

    async def answer(self, octets: bytes, *, is_datagram: bool) -> bytes | None:
        """The answer to one query; None: there is none."""
        query = dns.message.from_wire(octets)
        question = query.question[0]
        asked = _key(question.name.to_text()), dns.rdatatype.to_text(question.rdtype)
        self.asked[asked] += 1
        if asked in self._held:
            await self._held[asked].wait()
        if self.is_down:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if asked in self._failing:
            rcode = self._failing[asked]
            if rcode is None:
                return None
            response.set_rcode(rcode)
            return response.to_wire()
        if is_datagram and asked in self._truncated:
            response.flags |= dns.flags.TC
            return response.to_wire()
        is_secure = self._fill(response, *asked)
        wants_ad = bool(query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO)  # RFC 6840
        if is_secure and wants_ad:
            response.flags |= dns.flags.AD
        wire = response.to_wire(max_size=65535)
        if not is_datagram or len(wire) <= query.payload:
            return wire
        shortened = dns.message.make_response(query, recursion_available=True)
        shortened.flags |= dns.flags.TC
        return shortened.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> bool:
        """Put records into the response. Returns whether all of it is authentic."""
        is_secure = True
        for _ in range(_CNAME_LIMIT):
            is_secure = is_secure and self._is_secure(name)
            kinds = self._records.get(name, {})
            if kind in kinds:
                response.answer.append(kinds[kind])
                return is_secure
            if "CNAME" not in kinds:
                break
            response.answer.append(kinds["CNAME"])
            name = _key(kinds["CNAME"][0].target.to_text())
        else:
            response.answer.clear()
            response.set_rcode(dns.rcode.SERVFAIL)  # a loop
            return False
        if not any(known == name or known.endswith(f".{name}") for known, kinds in self._records.items() if kinds):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {_NEGATIVE_TTL}"
        response.authority.append(dns.rrset.from_text(dns.name.from_text(name), _NEGATIVE_TTL, "IN", "SOA", soa))
        return is_secure

    def _is_secure(self, name: str) -> bool:
        return any(name == zone or name.endswith(f".{zone}") for zone in self._secure)

    def start(self, coroutine: Any) -> None:
        """Run it until the server ends."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Answer nothing more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, octets: bytes, peer: tuple[str | Any, int]) -> None:
        self._server.start(self._answer(octets, peer))

    async def _answer(self, octets: bytes, peer: tuple[str | Any, int]) -> None:
        answer = await self._server.answer(octets, is_datagram=True)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, peer)


async def _serve_stream(server: NameServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await server.answer(await reader.readexactly(size), is_datagram=False)
            if answer is None:
                break
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def name_server(secure: Iterable[str] = ()) -> AsyncIterator[NameServer]:
    """A running name server that knows nothing yet."""
    server = NameServer()
    server.secure(*secure)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.start(_serve_stream(server, reader, writer))

    loop = asyncio.get_running_loop()
    streams = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = streams.sockets[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), local_addr=("127.0.0.1", port))
    server.address = f"127.0.0.1:{port}"
    try:
        yield server
    finally:
        datagrams.close()
        streams.close()
        await server.stop()
        await streams.wait_closed()


def _key(name: str) -> str:
    return name.rstrip(".").lower()

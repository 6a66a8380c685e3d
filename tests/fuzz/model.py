"""A client of IMAP that believes what it is told, and fails when it cannot be true.

It follows EXISTS, EXPUNGE, VANISHED and FETCH of the selected mailbox by the rules of RFC 3501 §7.3 and §7.4, RFC 7162 §3.2.10
and RFC 9586 §3, and reads every response with the parser of the conformance tests.
"""

import asyncio
import re
import ssl
import zlib
from contextlib import suppress

from protocol.imap.cursor import Cursor
from protocol.imap.limits import Limits
from protocol.imap.sequence import sequence_set
from tests.daemons.imap.conformance.imaptest import tokens
from tests.fuzz.commands import Command

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_STATUS = re.compile(rb"\* (OK|NO|BAD|BYE|PREAUTH)(?: \[([^\]]*(?:\[[^\]]*\][^\]]*)*)\])? ")
_NUMBERED = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH|UIDFETCH)(?: |\Z)")
_HOLDS_EXPUNGES = re.compile(rb"(?i)(FETCH|STORE|SEARCH|SORT|THREAD)(?: |\Z)")
_FETCHED_UID = re.compile(rb"\* \d+ FETCH \((?:UID (\d+)|MODSEQ \(\d+\) UID (\d+)| ?FLAGS \([^)]*\) UID (\d+))")
_LARGEST_UID = 0xFFFFFFFF


class BrokenError(AssertionError):
    """The server has said what it must not."""


def members(octets: bytes) -> set[int]:
    """The numbers of a set without `*`."""
    ranges = sequence_set(Cursor(octets, {}, Limits())).resolve(_LARGEST_UID)
    return {number for first, last in ranges for number in range(first, min(last, first + 100_000) + 1)}


class ModelClient:
    """One connection. `uids` is None while no mailbox is selected; a UID is 0 while it is not known."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None
        self._inflated = b""
        self._count = 0  # of commands
        self._pending: list[tuple[bytes, bytes]] = []  # tag and command, in the order sent
        self.uids: list[int] | None = None
        self.enabled: set[bytes] = set()
        self.is_over = False  # BYE was said
        self._is_lost = False  # what is selected is not known
        self.log: list[bytes] = []

    @classmethod
    async def connect(cls, endpoint: tuple[str, int], tls: ssl.SSLContext) -> "ModelClient":
        """Connect and read the greeting."""
        streams = await asyncio.open_connection(*endpoint, ssl=tls, server_hostname="localhost", limit=1 << 24)
        client = cls(*streams)
        client._hear(await client._line())
        return client

    async def close(self) -> None:
        """Close without LOGOUT."""
        self._writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()

    # -- sending ----------------------------------------------------------------------------------------------------

    def next_tag(self) -> bytes:
        """Never used before."""
        self._count += 1
        return b"t%d" % self._count

    async def send(self, octets: bytes, cuts: list[int]) -> None:
        """Send octets in pieces of these sizes, the rest in one."""
        self.log.append(b"C: " + octets)
        if self._deflater is not None:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        with suppress(ConnectionError, ssl.SSLError):  # after BYE
            for size in cuts:
                self._writer.write(octets[:size])
                octets = octets[size:]
                await self._writer.drain()
                await asyncio.sleep(0)  # the server may read it now
            self._writer.write(octets)
            await self._writer.drain()

    async def pipeline(self, commands: list[bytes], cuts: list[int]) -> None:
        """Send commands without a place to wait at once, and hear all answers."""
        sent = b""
        for command in commands:
            tag = self.next_tag()
            self._pending.append((tag, command))
            sent += tag + b" " + command + b"\r\n"
        await self.send(sent, cuts)
        while self._pending and not self.is_over:
            if await self._hear_next() == "+":
                raise BrokenError("a continuation nobody waits for")

    async def converse(self, command: Command, cuts: list[int]) -> None:
        """Send one command, its pieces after a "+" each, and hear its answer. A refusal ends it early."""
        tag = self.next_tag()
        self._pending.append((tag, command[0]))
        pieces = [tag + b" " + command[0], *command[1:]]
        for index, piece in enumerate(pieces):
            is_last = index + 1 == len(pieces)
            await self.send(piece + b"\r\n" if is_last or not piece.endswith(b"\r\n") else piece, cuts)
            while (heard := await self._hear_next()) == "*":
                continue
            if heard != "+":
                break
        else:
            while heard == "+":  # it asks on and on: give up
                await self.send(b"*\r\n", [])
                while (heard := await self._hear_next()) == "*":
                    continue
        if heard == "t" and (command[0].upper(), self._last) == (b"COMPRESS DEFLATE", b"OK"):
            self._deflater, self._inflater = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    async def garbage(self, lines: list[bytes], cuts: list[int]) -> None:
        """Send lines that are anything but literals, and hear answers until a NOOP behind them has its own."""
        tag = self.next_tag()
        self._pending.append((tag, b"garbage"))
        await self.send(b"".join(line + b"\r\n" for line in lines) + tag + b" NOOP\r\n", cuts)
        while not self.is_over:
            heard = await self._hear_next(is_garbage=True)
            if heard == "+":  # IDLE or AUTHENTICATE: the NOOP was taken for its next line
                self._pending.clear()
                tag = self.next_tag()
                self._pending.append((tag, b"garbage"))
                await self.send(b"*\r\n" + tag + b" NOOP\r\n", [])
            elif heard == "t" and not self._pending:
                return

    # -- hearing ----------------------------------------------------------------------------------------------------

    async def _read(self) -> bytes:
        """One line with its end, b"" at the end of the connection."""
        if self._inflater is None:
            return await self._reader.readline()
        while b"\n" not in self._inflated:
            block = await self._reader.read(65536)
            if not block:
                return b""
            self._inflated += self._inflater.decompress(block)
        line, end, self._inflated = self._inflated.partition(b"\n")
        return line + end

    async def _read_exactly(self, size_octets: int) -> bytes:
        if self._inflater is None:
            return await self._reader.readexactly(size_octets)
        while len(self._inflated) < size_octets:
            block = await self._reader.read(65536)
            assert block
            self._inflated += self._inflater.decompress(block)
        octets, self._inflated = self._inflated[:size_octets], self._inflated[size_octets:]
        return octets

    async def _line(self) -> bytes:
        """One response, with its literals."""
        async with asyncio.timeout(30):
            whole = b""
            while True:
                try:
                    piece = await self._read()
                except (ConnectionError, ssl.SSLError):
                    piece = b""
                if not piece:
                    if not self.is_over:
                        raise BrokenError(f"the connection ended without BYE; pending {self._pending}")
                    return b""
                whole += piece
                literal = _LITERAL.search(piece)
                if literal is None:
                    break
                whole += await self._read_exactly(int(literal[1]))
        if not whole.endswith(b"\r\n"):
            raise BrokenError(f"a response without CRLF: {whole!r}")
        self.log.append(b"S: " + whole[:-2])
        return whole[:-2]

    _last = b""  # status of the last tagged answer

    async def _hear_next(self, *, is_garbage: bool = False) -> str:
        """Hear one response: "+", "*" or "t" for a tagged one."""
        line = await self._line()
        if not line:  # after BYE
            self._pending.clear()
            return "t"
        if b"[SERVERBUG]" in line:
            raise BrokenError(f"{line!r} to {self._pending[:1]}")
        if line.startswith(b"+ "):
            return "+"
        if line.startswith(b"* "):
            self._hear(line)
            return "*"
        tag, _, rest = line.partition(b" ")
        status = rest.partition(b" ")[0]
        if status not in (b"OK", b"NO", b"BAD"):
            raise BrokenError(f"{line!r} is no response")
        if self._pending and tag == self._pending[0][0]:
            _, command = self._pending.pop(0)
            self._last = status
            self._completed(command.upper(), status)
        elif not is_garbage:
            raise BrokenError(f"{line!r} answers nothing; pending {self._pending}")
        elif status != b"BAD":  # it was a command after all, which may have selected or closed
            self.uids, self._is_lost = None, True
        return "t"

    def _completed(self, command: bytes, status: bytes) -> None:
        if status != b"OK":
            if status == b"NO" and command.startswith((b"SELECT ", b"EXAMINE ")):
                self.uids = None  # RFC 3501 §6.3.1; after BAD nothing has been tried
        elif command in (b"CLOSE", b"UNSELECT"):
            self.uids = None
        elif command == b"UNAUTHENTICATE":
            self.uids = None
            self.enabled.clear()

    def _hear(self, line: bytes) -> None:
        """Take over what an untagged response says. Raises BrokenError."""
        running = self._pending[0][1].upper() if self._pending else b""
        if found := _STATUS.match(line):
            if found[1] == b"BYE":
                self.is_over = True
            if found[2] == b"CLOSED" or (self.uids is None and found[2] == b"READ-WRITE"):
                self.uids = None
            return
        tokens(line)  # raises where it is no list of values
        if running.startswith((b"SELECT ", b"EXAMINE ")) and line.startswith(b"* FLAGS ") and self.uids is None:
            self.uids, self._is_lost = [], False
        if line.startswith(b"* ENABLED"):
            self.enabled |= set(line.upper().split()[2:])
        elif line.startswith(b"* VANISHED (EARLIER) "):
            self._vanished_earlier(line.split()[3])
        elif line.startswith(b"* VANISHED "):
            self._vanished(line.split()[2], running)
        elif found := _NUMBERED.match(line):
            self._numbered(int(found[1]), found[2], line, running)
        elif line.startswith((b"* SEARCH", b"* SORT")) and running.startswith((b"SEARCH ", b"SORT ")):
            self._results(line.partition(b"(MODSEQ")[0].split()[2:])

    def _results(self, numbers: list[bytes]) -> None:
        if self.uids is not None and any(not 1 <= int(number) <= len(self.uids) for number in numbers):
            raise BrokenError(f"{numbers} of {len(self.uids)} messages")

    def _vanished_earlier(self, uids: bytes) -> None:
        gone = members(uids)
        if self.uids is not None and not gone.isdisjoint(self.uids):
            raise BrokenError(f"VANISHED (EARLIER) {uids!r} are still there: {self.uids}")

    def _vanished(self, uids: bytes, running: bytes) -> None:
        if self.uids is None:
            return
        if not self.enabled & {b"QRESYNC", b"UIDONLY"}:
            raise BrokenError("VANISHED was not enabled")
        if _HOLDS_EXPUNGES.match(running) and b"UIDONLY" not in self.enabled:
            raise BrokenError(f"VANISHED in {running!r}")
        gone = members(uids)
        unknown = len(gone - set(self.uids))
        if unknown > self.uids.count(0):
            raise BrokenError(f"VANISHED {uids!r} of {self.uids}")
        kept = [uid for uid in self.uids if uid not in gone]
        self.uids = [0] * (len(kept) - unknown) if unknown else kept

    def _numbered(self, number: int, kind: bytes, line: bytes, running: bytes) -> None:
        if self.uids is None:
            if kind in (b"EXPUNGE", b"FETCH") and running != b"GARBAGE" and not self._is_lost:
                raise BrokenError(f"{line[:60]!r} with nothing selected")
        elif kind == b"EXISTS":
            if number < len(self.uids):
                raise BrokenError(f"EXISTS fell from {len(self.uids)} to {number}")
            self.uids += [0] * (number - len(self.uids))
        elif kind == b"EXPUNGE":
            if self.enabled & {b"QRESYNC", b"UIDONLY"} or _HOLDS_EXPUNGES.match(running):
                raise BrokenError(f"EXPUNGE in {running!r}, enabled {self.enabled}")
            if not 1 <= number <= len(self.uids):
                raise BrokenError(f"EXPUNGE {number} of {len(self.uids)}")
            del self.uids[number - 1]
        elif kind == b"FETCH":
            if b"UIDONLY" in self.enabled or not 1 <= number <= len(self.uids):
                raise BrokenError(f"{line[:60]!r} of {len(self.uids)}, enabled {self.enabled}")
            self._learn(number, line)

    def _learn(self, number: int, line: bytes) -> None:
        """The UID of a message never changes, and they ascend."""
        found = _FETCHED_UID.match(line)
        if found is None or self.uids is None:
            return
        uid = int(found[1] or found[2] or found[3])
        if self.uids[number - 1] not in (0, uid):
            raise BrokenError(f"message {number} had UID {self.uids[number - 1]}, now {uid}")
        self.uids[number - 1] = uid
        known = [uid for uid in self.uids if uid]
        if known != sorted(set(known)):
            raise BrokenError(f"UIDs do not ascend: {self.uids}")

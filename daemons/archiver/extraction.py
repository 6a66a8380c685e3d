"""The process that reads messages for the search index: octets in, text out, with limits to its memory and time.

It opens no file and no connection: a hostile attachment can break nothing but it. It is started by Extractor and speaks
with it over its standard input and output: four octets of length, then a MessagePack value.
"""

import asyncio
import logging
import os
import resource
import signal
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import msgspec

from config.search import Search
from protocol.message import unpack
from protocol.message.documents import document_name, document_text, documents
from protocol.message.mime import Part
from protocol.message.preview import preview
from protocol.message.stems import word_sections
from protocol.message.text import canonical, searchable

MAX_DOCUMENTS = 50  # of one message
_NICENESS = 10
_LENGTH = struct.Struct(">I")
_BUFFER = 256 << 10


class Task(msgspec.Struct, array_like=True):
    """One message, and how far to go."""

    head: bytes
    original: bytes
    structure: bytes
    text_limit: int
    document_limit: int  # 0: leave attachments out
    document_seconds: float
    document_characters: int


class Extracted(msgspec.Struct, array_like=True):
    """What the index holds of a message. is_whole: no; then every search has to read it anew."""

    is_whole: bool = False
    header: str = ""
    body: str = ""
    words: str = ""
    preview: str = ""
    documents: int = 0  # attachments that text was read from
    error: str = ""  # why there is nothing


class OutOfTimeError(BaseException):
    """A document took too long. No Exception: parsers of others catch those."""


class ExtractionError(Exception):
    """The process died, or took too long, or sent nonsense."""


_ANSWERS = msgspec.msgpack.Decoder(Extracted)


def extract(task: Task) -> Extracted:
    """Read one message."""
    part = unpack(task.structure)
    header, body = searchable(task.original, part, task.head)
    shown = preview(task.original, part)
    if len(header) + len(body) > task.text_limit:
        return Extracted(preview=shown)
    found, count = _document_texts(task, part) if task.document_limit else ("", 0)
    words = word_sections(task.original[part.header_start : part.body_start], body, found)
    return Extracted(True, canonical(header), canonical(body), words, shown, count)


def _document_texts(task: Task, root: Part) -> tuple[str, int]:
    """The names of all attachments and the texts of those that we can read, as far as the limits allow."""
    pieces = [name for part in _leaves(root) if (name := document_name(part))]
    left, count = task.document_characters, 0
    for part in documents(root):
        if part.end - part.body_start > task.document_limit:
            continue
        text = ""
        with suppress(OutOfTimeError), _time_limit(task.document_seconds):
            text = document_text(task.original, part, left)
        if text:
            pieces.append(text)
            count, left = count + 1, left - len(text)
        if left <= 0 or count == MAX_DOCUMENTS:
            break
    return "\n".join(pieces), count


def _leaves(part: Part) -> list[Part]:
    return [leaf for child in part.children for leaf in _leaves(child)] if part.children else [part]


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError


def main(memory_octets: int) -> None:
    """Answer tasks until the other side closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the archiver says when it is over
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # a system call filter may refuse
        os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_octets, memory_octets))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)  # pypdf tells of each oddity
    decoder, encoder = msgspec.msgpack.Decoder(Task), msgspec.msgpack.Encoder()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while length := source.read(_LENGTH.size):
        asked = source.read(*_LENGTH.unpack(length))
        try:
            found = extract(decoder.decode(asked))
        except Exception as error:  # a bug of ours, or out of memory: of this message alone
            found = Extracted(error=type(error).__name__)
        answer = encoder.encode(found)
        target.write(_LENGTH.pack(len(answer)) + answer)
        target.flush()


class Extractor:
    """Our side of the process: started when there is something to read, ended when there is nothing for a while."""

    def __init__(self, settings: Search) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"<Extractor {'running' if self._process else 'resting'}>"

    async def extract(self, head: bytes, original: bytes, structure: bytes, *, with_documents: bool) -> Extracted:
        """Have one message read. Raises ExtractionError."""
        settings = self._settings
        task = Task(
            head,
            original,
            structure,
            int(settings.text_limit),
            int(settings.document_limit) if with_documents else 0,
            float(settings.document_time),
            int(settings.document_text),
        )
        try:
            async with asyncio.timeout(settings.message_time):
                found = await self._ask(msgspec.msgpack.encode(task))
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:  # TimeoutError is an OSError
            raise ExtractionError(type(error).__name__) from error
        if found.error:
            raise ExtractionError(found.error)
        return found

    async def _ask(self, asked: bytes) -> Extracted:
        is_answered = False
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, str(int(self._settings.memory))),
                stdin=PIPE,
                stdout=PIPE,
                limit=_BUFFER,
            )
        source, target = self._process.stdout, self._process.stdin
        assert source is not None
        assert target is not None
        try:
            target.write(_LENGTH.pack(len(asked)))
            target.write(asked)
            await target.drain()
            (length,) = _LENGTH.unpack(await source.readexactly(_LENGTH.size))
            answer = _ANSWERS.decode(await source.readexactly(length))
            is_answered = True
            return answer
        finally:
            if not is_answered:
                await self.close()

    async def close(self) -> None:
        """End the process; the next message starts another one."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))

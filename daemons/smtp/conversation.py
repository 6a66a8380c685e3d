"""The mechanics of one SMTP or LMTP connection: lines in, replies out, time limits, STARTTLS, and an orderly end.

A thin layer over aiosmtpd's SMTP: connection, streams, session and envelope objects and their life are aiosmtpd's; what
is replaced are its command loop (replies are batched as RFC 2920 §3.2 allows, commands are taken without a task switch
each), its timer, and its habit of cancelling the handler when the client hangs up: that handler may be storing a message.
What the commands do is daemons/smtp/session.py.
"""

import asyncio
import logging
import math
import secrets
import ssl
from abc import abstractmethod
from typing import cast

from aiosmtpd.smtp import SMTP

from config.smtp import Smtp
from daemons.logs import logger
from daemons.smtp import replies
from daemons.smtp.reader import OctetReader
from daemons.sockets import TLS_HANDSHAKE_SECONDS, UNSENT_OCTETS
from protocol.smtp.parameters import CommandError
from protocol.smtp.reply import Reply

CLOSING_SECONDS = 5.0  # for the last reply to get out before the connection is cut

log = logger("smtp")
logging.getLogger("mail.log").disabled = True  # aiosmtpd's log has the peers' addresses and their words


class HangUpError(Exception):
    """The client is gone, or was told to go: the conversation ends without another word."""


class Conversation(SMTP):
    """One connection. Subclasses say what a line does."""

    _reader: OctetReader
    _writer: asyncio.StreamWriter

    def __init__(self, limits: Smtp, hostname: str, tls: ssl.SSLContext | None) -> None:
        # Not SMTP.__init__, which spends 180 µs per connection on inspecting its own methods and the handler's. The
        # attributes it makes are made here; tests/daemons/smtp/test_reader.py says when a new aiosmtpd has others.
        self.loop = asyncio.get_running_loop()
        asyncio.StreamReaderProtocol.__init__(
            self, OctetReader(self.loop), client_connected_cb=self._cb_client_connected, loop=self.loop
        )
        self.hostname = hostname
        self.tls_context = tls
        self.session = None
        self.envelope = None
        self.transport = None
        self._handler_coroutine = None
        self._original_transport = None
        self._tls_protocol = None
        self._handle_hooks = {}
        self._limits = limits
        self._output: list[bytes] = []
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_stopping = False
        self._is_listening = False  # waiting for a command

    def __repr__(self) -> str:
        state = "lost" if self.transport is None else "listening" if self._is_listening else "busy"
        return f"<{type(self).__name__} {state}{' secure' if self.is_secure else ''}>"

    @property
    def is_secure(self) -> bool:
        """Whether TLS is on."""
        return self.session is not None and self.session.ssl is not None

    @property
    def peer(self) -> str:
        """The client's IP address in presentation form; "" for a local socket."""
        place = self.session.peer if self.session is not None else None
        return str(place[0]) if isinstance(place, tuple) and place else ""

    @property
    def local(self) -> str:
        """The address that the client has reached, likewise."""
        place = self.transport.get_extra_info("sockname") if self.transport is not None else None
        return str(place[0]) if isinstance(place, tuple) and place else ""

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS state, for its version, cipher and channel binding."""
        if self.session is None or self.session.ssl is None:
            return None
        return cast(ssl.SSLObject, self.session.ssl["ssl_object"])

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The running conversation."""
        return self._handler_coroutine

    @property
    def is_idle(self) -> bool:
        """Whether the connection may be ended without losing work of the client."""
        return True

    @abstractmethod
    async def _greet(self) -> None:
        """Say the first word, or raise HangUpError."""

    @abstractmethod
    async def _execute(self, line: bytes) -> None:
        """Do what the line says. May raise CommandError and HangUpError."""

    @abstractmethod
    def _refuse(self, answer: Reply) -> None:
        """Answer a command that was not executed. May raise HangUpError."""

    @abstractmethod
    def _forget(self) -> None:
        """Release what the session holds. Called once, at its end."""

    # -- the conversation -------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """Runs as one task from the connection to its end, and is never cancelled by the client's hanging up."""
        try:
            await self._greet()
            await self._converse()
        except (HangUpError, ConnectionError, ssl.SSLError):
            pass
        except Exception:
            log.exception("session failed", error_id=secrets.token_hex(6))
            self._write(replies.INTERNAL_ERROR)
        finally:
            self._forget()
            self._close()

    async def _converse(self) -> None:
        reader, limit = self._reader, self._limits.line_limit
        while self.transport is not None:
            try:
                line = reader.take_line(limit)
                if line is None:
                    if self._is_stopping and self.is_idle:
                        self._hang_up(replies.SHUTTING_DOWN)
                    self._is_listening = True
                    has_more = await self._wait()
                    self._is_listening = False
                    if not has_more:
                        return
                else:
                    await self._execute(line)
            except CommandError as error:
                self._refuse(error.reply)
            if self._output and len(self._output) > 64:
                await self._flush()

    async def _wait(self, ends_at: float = math.inf) -> bool:
        """Send what is written and wait for octets; False at the client's end. Silence ends the connection."""
        await self._flush()
        if self.transport is None:
            return False
        self._set_deadline(min(self.loop.time() + self._limits.command_timeout, ends_at))
        try:
            return await self._reader.wait()
        finally:
            self._deadline = math.inf

    # -- replies ----------------------------------------------------------------------------------------------------

    def _write(self, answer: Reply) -> None:
        self._output.append(answer.octets)

    async def push(self, status: str | bytes) -> None:
        """aiosmtpd's way to reply, for its own parts."""
        self._output.append((status.encode() if isinstance(status, str) else status) + b"\r\n")

    async def _flush(self) -> None:
        """Send what is written; wait only while the client does not read what it is sent."""
        if self.transport is None or not self._output:
            return
        transport = cast(asyncio.Transport, self.transport)
        transport.write(b"".join(self._output) if len(self._output) > 1 else self._output[0])
        self._output.clear()
        if transport.get_write_buffer_size() > UNSENT_OCTETS:
            self._set_deadline(self.loop.time() + self._limits.command_timeout)
            try:
                await self._writer.drain()
            finally:
                self._deadline = math.inf

    def _hang_up(self, answer: Reply) -> None:
        """Say this and end the conversation. Always raises HangUpError."""
        self._write(answer)
        raise HangUpError

    def _close(self) -> None:
        if self.transport is None:
            return
        transport = cast(asyncio.Transport, self.transport)
        if self._output and not transport.is_closing():
            transport.write(b"".join(self._output))
        self._output.clear()
        transport.close()
        self._set_deadline(self.loop.time() + CLOSING_SECONDS)  # then it is cut off: it may never read

    # -- time -------------------------------------------------------------------------------------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        """aiosmtpd resets its timer at the connection and after each command; ours is set where we wait."""

    def _set_deadline(self, deadline: float) -> None:
        # The timer is not moved at each wait: when it fires early it is set anew. A busy session touches it seldom.
        self._deadline = deadline
        if self._timer is None or self._timer_at > deadline:
            if self._timer is not None:
                self._timer.cancel()
            # Not asked of the handle: for a moment that is now, uvloop gives one without when().
            self._timer, self._timer_at = self.loop.call_at(deadline, self._timeout_cb), deadline

    def _timeout_cb(self) -> None:
        self._timer = None
        if self.transport is None or self._deadline == math.inf:
            return
        if self.loop.time() < self._deadline:
            self._set_deadline(self._deadline)
            return
        transport = cast(asyncio.Transport, self.transport)
        if transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.write(replies.TIMED_OUT.octets)
            transport.close()

    # -- the end ----------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """End the conversation as soon as the client is not in the middle of something."""
        self._is_stopping = True
        if self._is_listening and self.is_idle and self.transport is not None:
            cast(asyncio.Transport, self.transport).write(replies.SHUTTING_DOWN.octets)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio.BaseProtocol. Not aiosmtpd's, which cancels the handler."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.transport = None
        asyncio.StreamReaderProtocol.connection_lost(self, error)

    def eof_received(self) -> bool | None:
        """asyncio.Protocol. What the client has sent is still executed and answered, unless TLS forbids half-open ends."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    # -- TLS --------------------------------------------------------------------------------------------------------

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """Go on in TLS after the replies that are written. Raises OSError when the handshake fails.

        What came in the clear behind STARTTLS is thrown away: it may be an attacker's (CVE-2011-0411, RFC 3207 §4.2).
        Reading stops first, so that no part of the handshake is taken for plain text.
        """
        if self.transport is None:
            raise HangUpError
        plain = cast(asyncio.Transport, self.transport)
        plain.pause_reading()
        self._reader.discard()
        await self._flush()
        secured = await self.loop.start_tls(
            plain, self, context, server_side=True, ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS
        )
        if secured is None or self.transport is None:
            raise HangUpError
        self._writer._transport = secured  # type: ignore[attr-defined]
        self._replace_writer(self._writer)  # type: ignore[attr-defined]
        self._reader.attach(secured)
        self.transport = secured
        assert self.session is not None
        self.session.ssl = {"ssl_object": secured.get_extra_info("ssl_object")}

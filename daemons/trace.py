"""The delivery trace: what became of a message, noted where it happens, written soon after, many notes at a time.

Who notes something never waits and never fails. The id is the transaction id that our 250 reply names, the one in Received,
journal and log. A note belongs to one tenant: whoever notes for several tenants tells each its own addresses only.

kind        facts that everybody names alike (all may be left out)
received    peer, helo, protocol, tls, login, reverse_path, forward_paths, authors, size_octets, message_id
checked     score, verdicts
refused     reply, reason, and those of received
stored      forward_path, mailbox_id, uidvalidity, uid
queued      reverse_path, forward_paths, expires_at
held        reason, forward_paths
attempt     forward_path, attempt, host, address, tls, reply, outcome (delivered, failed, deferred), next_attempt_at
delivered   forward_path, host, reply (the end of a remote recipient)
failed      forward_path, host, reply (the end of a remote recipient)
bounced     forward_path, action, report (the trace id of the report), to
released    forward_path, by
deleted     forward_path, by, reason

tls is text, "TLSv1.3 TLS_AES_256_GCM_SHA384, DANE"; times are datetimes or text; reply is the server's own words. reverse_path,
authors, forward_path and forward_paths of the kinds received, refused, queued and bounced are what a search by address finds.
"""

import asyncio
import time
from collections import deque
from typing import Literal, TypeAlias

from prometheus_client import Counter

from config.trace import Trace

Kind: TypeAlias = Literal[
    "received", "checked", "refused", "stored", "queued", "held", "attempt", "delivered", "failed", "bounced",
    "released", "deleted",
]  # fmt: skip

_LOST = Counter("postwerk_trace_lost", "Notes of the delivery trace that could not be written.")


class Recorder:
    """One per process: `context.recorder`."""

    def __init__(self, settings: Trace) -> None:
        self._settings = settings
        self._waiting: deque[tuple[int, str, float, Kind, dict[str, object]]] = deque()
        self._arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Recorder: {len(self._waiting)} notes waiting>"

    def note(self, tenant_id: int, trace_id: str, kind: Kind, /, **facts: object) -> None:
        """Record that this happened now. The facts are kept as they are: whoever gave a list does not change it any more."""
        if len(self._waiting) >= self._settings.queue_limit:
            _LOST.inc()
            return
        self._waiting.append((tenant_id, trace_id, time.time(), kind, facts))
        self._arrived.set()

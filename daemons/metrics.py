"""Metrics in Prometheus' text format: what processes count, and a small HTTP responder that shows it.

Under the supervisor every process writes its counters into files of one directory (prometheus_client's multiprocess mode)
and the supervisor shows the sum; a process on its own shows its own.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from daemons.sockets import Connection

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_OCTETS = 8192
_REQUEST_SECONDS = 10.0

connections_accepted = Counter("postwerk_connections", "Connections accepted.", ["protocol"])
messages_accepted = Counter("postwerk_messages_accepted", "Messages acknowledged.", ["protocol"])
recipients_refused = Counter(
    "postwerk_recipients_refused", "Recipients refused at RCPT, by code of the reply.", ["code"]
)
filter_seconds = Histogram(
    "postwerk_filter_seconds",
    "Time that a filter took for one check, waiting included.",
    ["filter"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0),
)
filter_verdicts = Counter(
    "postwerk_filter_verdicts", "What filters came to, by kind of verdict.", ["filter", "verdict"]
)
service_available = Gauge(
    "postwerk_service_available",
    "Whether a service that filters ask is asked; 0: it gave no answer lately, and is left alone.",
    ["service"],
    multiprocess_mode="livemin",
)
logins = Counter("postwerk_logins", "Logins, by outcome.", ["protocol", "outcome"])


def is_multiprocess() -> bool:
    """Whether a supervisor shows our metrics for us."""
    return DIRECTORY_VARIABLE in os.environ


def render() -> bytes:
    """This process's metrics."""
    return generate_latest(REGISTRY)


def render_all(directory: Path, own: CollectorRegistry) -> bytes:
    """The sum over all processes that write into `directory`, and what `own` adds."""
    summed = CollectorRegistry()
    MultiProcessCollector(summed, path=str(directory))  # type: ignore[no-untyped-call]
    return generate_latest(summed) + generate_latest(own)


class ProcessCollector(Collector):
    """CPU, memory and restarts of processes that somebody else runs, from /proc; read when asked."""

    def __init__(self, processes: Callable[[], Iterable[tuple[str, int, int]]]) -> None:
        """processes gives (name, pid, restart count)."""
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        """prometheus_client's Collector."""
        cpu = CounterMetricFamily("postwerk_process_cpu_seconds", "CPU time, children included.", labels=["process"])
        memory = GaugeMetricFamily("postwerk_process_resident_octets", "Resident memory.", labels=["process"])
        restarts = CounterMetricFamily("postwerk_process_restarts", "Restarts after an end.", labels=["process"])
        for name, pid, restart_count in self._processes():
            seconds, octets = usage(pid)
            cpu.add_metric([name], seconds)
            memory.add_metric([name], octets)
            restarts.add_metric([name], restart_count)
        return [cpu, memory, restarts]


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds and resident octets of a process and its children, the ended ones' CPU included. 0 when it is gone."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    seconds, octets = 0.0, 0
    for member in [pid] if pid == os.getpid() else [pid, *_children(pid)]:  # our children are named on their own
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += sum(int(field) for field in fields[11:15]) / tick  # utime stime cutime cstime, proc(5)
        octets += int(fields[21]) * page
    return seconds, octets


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def exposition(collect: Callable[[], bytes]) -> Callable[[Connection], Awaitable[None]]:
    """A connection handler that answers GET /metrics, RFC 9112, one request per connection."""

    async def answer(connection: Connection) -> None:
        request = b""
        while b"\r\n\r\n" not in request and len(request) <= _REQUEST_OCTETS:
            octets = await connection.receive(_REQUEST_SECONDS)
            if not octets:
                return
            request += octets
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method != b"GET":
            await connection.send(_response("405 Method Not Allowed", b"only GET\n"))
        elif path != b"/metrics":
            await connection.send(_response("404 Not Found", b"look at /metrics\n"))
        else:
            await connection.send(_response("200 OK", collect()))

    return answer


def _response(status: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body

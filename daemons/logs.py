"""Logs: one JSON object a line on standard error, by structlog, without mail addresses and IP addresses by default."""

import logging as stdlib_logging
import re
import sys
from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import Any, cast

import msgspec
import structlog

from config.logs import Logs

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# A local part is looked at from its beginning only, and a quoted one not further than it may go: time is linear in the text.
_MAIL = re.compile(
    r'(?:"(?:[^"\\]|\\.){0,200}+"|(?<![^\s<>()\[\]@,;:"\'])[^\s<>()\[\]@,;:"\']++)@(?:\[[^\]\s]*+\]|[^\s<>()\[\]@,;:"\']++)'
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?![\w:])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
# What PostgreSQL tells behind an error: the values of the row, which may be anything that a message or a mailbox is made of.
_DETAIL = re.compile(r"\n[ |]*DETAIL:  .*?(?=\n[ |]*(?:HINT:  |\n)|\Z)", re.DOTALL)
_ENCODER = msgspec.json.Encoder(enc_hook=str)

Event = MutableMapping[str, Any]


def logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry `component`. May be called at import time: it takes its settings at first use."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(component=component))


def configure(logs: Logs, process: str) -> None:
    """Set up logging for this process, once at its start. Every event carries `process`."""

    def add_process(_logger: object, _method: str, event: Event) -> Event:
        event["process"] = process
        return event

    processors: list[Any] = [add_process, structlog.processors.add_log_level, structlog.processors.format_exc_info]
    if logs.anonymise:
        processors.append(anonymise)
    processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    processors.append(structlog.processors.JSONRenderer(serializer=_encode))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[logs.level]),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    root = stdlib_logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(_LEVELS[logs.level], stdlib_logging.WARNING))  # libraries speak up for trouble only


def anonymise(_logger: object, _method: str, event: Event) -> Event:
    """structlog processor: no mail address, no IP address and no row of the database leaves the process, wherever it stands."""
    for key, value in event.items():
        if type(value) is str and not ("@" in value or ":" in value or "." in value):
            continue  # nearly all of them
        if type(value) is not int:
            event[key] = _anonymous(value)
    return event


def _anonymous(value: Any) -> Any:
    if isinstance(value, str):
        if "DETAIL:" in value:
            value = _DETAIL.sub("", value)
        if "@" in value:
            value = _MAIL.sub("x@x", value)
        if ":" in value:
            value = _IPV6.sub(_hide_address, value)
        if "." in value:
            value = _IPV4.sub(_hide_address, value)
        return value
    if isinstance(value, bytes):
        return _anonymous(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, dict):
        return {_anonymous(key): _anonymous(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_anonymous(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _anonymous(str(value))


def _hide_address(match: re.Match[str]) -> str:
    text = match[0].rstrip(".")
    try:
        ip_address(text)
    except ValueError:
        return match[0]  # a time of day, a version
    return "0" + match[0][len(text) :]


def _encode(event: Event, **_: Any) -> bytes:
    return _ENCODER.encode(event)


class _Forward(stdlib_logging.Handler):
    """Standard library logging, as libraries use it, into ours."""

    def emit(self, record: stdlib_logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told: dict[str, Any] = {}
        if error is not None:  # a warning needs no traceback: a library tries again by itself
            told = {"exc_info": error} if record.levelno >= stdlib_logging.ERROR else {"error": repr(error)}
        logger(record.name).log(record.levelno, record.getMessage(), **told)

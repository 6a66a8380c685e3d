"""The requests that notifications are: JSON to web servers that users name, and whatever an SMS gateway's templates make."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

from config.notifier import Gateway

_JSON = "application/json"


class SecretError(Exception):
    """The file with a gateway's secret cannot be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server."""

    method: str
    url: str
    octets: bytes | None
    headers: Mapping[str, str]


def webhook(url: str, facts: Mapping[str, object]) -> Request:
    """A POST of the facts. The same one sent again has the same key, by which the server may know it."""
    headers = {"Content-Type": _JSON, "Idempotency-Key": str(facts["id"])}
    return Request("POST", url, json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace"), headers)


def sms(gateway: Gateway, number: str, facts: Mapping[str, object]) -> Request:
    """What the gateway wants to be asked. Raises SecretError."""
    places = {
        "to": number,
        "digits": number.removeprefix("+"),
        "text": str(facts["text"]),
        "id": str(facts["id"]),
        "secret": _secret(gateway.secret_file) if gateway.secret_file else "",
    }
    headers = {name: _filled(value, places, _in_field) for name, value in gateway.headers.items()}
    url = _filled(gateway.url, places, _in_url)
    if gateway.method == "GET":
        return Request("GET", url, None, headers)
    escaped = _filled(gateway.body, places, _in_json if gateway.media_type == _JSON else _in_url)
    return Request("POST", url, escaped.encode(), {"Content-Type": gateway.media_type} | headers)


def _filled(template: str, places: Mapping[str, str], escaped: Callable[[str], str]) -> str:
    return Template(template).substitute({name: escaped(value) for name, value in places.items()})


def _in_url(value: str) -> str:
    return quote(value, safe="", errors="replace")


def _in_json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _in_field(value: str) -> str:
    return "".join(character for character in value if " " <= character <= "~")


def _secret(file: str) -> str:
    try:
        return Path(file).read_text("utf-8").partition("\n")[0].strip()
    except (OSError, ValueError) as error:
        raise SecretError(f"secret_file: {type(error).__name__}") from error

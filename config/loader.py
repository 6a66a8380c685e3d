"""From a TOML file to Settings and back. Every error names the file, the key and the rule it broke."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from config.settings import Settings
from config.units import Octets, Seconds, decode_quantity, spell

_PLACE = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<place>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


class ConfigError(Exception):
    """The configuration cannot be used: "postwerk.toml: smtp.size_limit: unknown unit 'XB'; ..."."""


def load(path: str | Path) -> Settings:
    """Read and check one file. Raises ConfigError and nothing else."""
    name = str(path)
    try:
        text = Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from error
    return parse(text, name)


def parse(text: str, name: str = "postwerk.toml") -> Settings:
    """Check the text of a configuration file; `name` is what errors call it. Raises ConfigError and nothing else."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from error
    try:
        return msgspec.convert(tables, Settings, dec_hook=decode_quantity)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_explain(str(error))}") from error


def _explain(message: str) -> str:
    """msgspec's "rule - at `$.smtp.size_limit`" as "smtp.size_limit: rule"."""
    match = _PLACE.fullmatch(message)
    rule, place = (match["rule"], match["place"] or "") if match else (message, "")
    if unknown := _UNKNOWN.fullmatch(rule):
        place, rule = f"{place}.{unknown[1]}".lstrip("."), "unknown key"
    return f"{place}: {rule}" if place else rule


def dump(settings: Settings) -> str:
    """The settings as TOML that load() reads back to an equal value. Unset keys are left out: TOML has no null."""
    return tomli_w.dumps(_without_unset(msgspec.to_builtins(settings, enc_hook=_encode)))


def _encode(value: Any) -> Any:
    if isinstance(value, Octets | Seconds):
        return spell(value)
    raise NotImplementedError(type(value))


def _without_unset(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if item is not None}
    return [_without_unset(item) for item in value] if isinstance(value, list) else value

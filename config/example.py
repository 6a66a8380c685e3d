"""The commented example configuration, generated from the types: it cannot be out of date."""

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import tomli_w
from msgspec import Meta

from config.settings import Settings
from config.units import Octets, Seconds, spell

_WIDTH = 110


def example() -> str:
    """Every key with its description and its default, commented out: as it stands the file changes nothing."""
    lines = [*_comment(Settings.__doc__ or ""), "", *_keys(Settings)]
    for field in msgspec.structs.fields(Settings):
        section = _struct(field.type)
        if section is not None:
            lines += ["", *_comment(section.__doc__ or ""), f"[{field.encode_name}]", *_keys(section)]
            lines += _tables(section, field.encode_name)
    return "\n".join(lines) + "\n"


def _keys(struct: type[msgspec.Struct]) -> Iterator[str]:
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if _struct(field.type) is not None or _entry(field.type) is not None:
            continue
        meta = _meta(hints[field.name])
        yield ""
        yield from _comment(meta.description or "")
        value = _default(field)
        if value in (None, msgspec.NODEFAULT):
            value = meta.examples[0] if meta.examples else None
        yield f"# {_assignment(field.encode_name, value)}"


def _tables(struct: type[msgspec.Struct], place: str) -> Iterator[str]:
    """The entries of lists, at the end of their section: what stands below [[x.y]] belongs to it."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        entry = _entry(field.type)
        if entry is not None:
            description = f"{_meta(hints[field.name]).description} An entry: {entry.__doc__}"
            yield from ("", *_comment(description), f"# [[{place}.{field.encode_name}]]", *_keys(entry))


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _assignment(key: str, value: Any) -> str:
    if value is None:
        return f"{key} ="
    if isinstance(value, dict):
        return f"{key} = {{{', '.join(_assignment(name, item) for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"{key} = [{', '.join(_value(item) for item in value)}]"
    return f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    """One value as TOML writes it."""
    if isinstance(value, Octets | Seconds):
        value = spell(value)
    return tomli_w.dumps({"x": value}).strip().partition(" = ")[2]


def _comment(text: str) -> Iterator[str]:
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        yield from (f"## {line}" for line in textwrap.wrap(" ".join(paragraph.split()), _WIDTH))


def _meta(hint: Any) -> Meta:
    if get_origin(hint) is Annotated:
        merged: dict[str, Any] = {}
        for item in get_args(hint)[1:]:
            if isinstance(item, Meta):
                merged |= {name: getattr(item, name) for name in ("description", "examples") if getattr(item, name)}
        return Meta(**merged)
    return Meta()


def _entry(hint: Any) -> type[msgspec.Struct] | None:
    """What a list consists of, when that is a table."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return _struct(get_args(hint)[0]) if get_origin(hint) is list else None


def _struct(hint: Any) -> type[msgspec.Struct] | None:
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None

"""The responses by which Ruby's net-imap (BSD-2-Clause) tests its parser: read, and made again by our renderers.

Each fixture is a response and what a client makes of it: Ruby objects, which are read here as plain mappings with the last
word of their tag under "is". values_of() says what a parser must find; rendered() is what we send for the same.
"""

import base64
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from protocol.imap import acl, quota, response
from protocol.message import body_of, render_bodystructure, render_envelope, scan, threads
from protocol.message.mime import Part
from protocol.message.threads import Forest
from tests.daemons.imap.conformance.imaptest import String, Value, tokens
from tests.daemons.imap.conformance.player import reply_of

ANY = "\x7f"  # what the client's values do not tell
_ADDRESSES = ("from", "sender", "reply_to", "to", "cc", "bcc")


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes Ruby's tags for names."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    name = tag.rpartition(":")[2]
    if isinstance(node, yaml.MappingNode):
        return {"is": name, **loader.construct_mapping(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode), tag
    return loader.construct_scalar(node)


def _binary(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    return base64.b64decode(loader.construct_scalar(node)).decode("utf-8")


_Loader.add_multi_constructor("!ruby/", _tagged)
_Loader.add_constructor("!binary", _binary)


@dataclass
class Fixture:
    """One response, and what a client makes of it."""

    name: str
    octets: bytes  # without the last CRLF
    expected: dict[str, Any] | None  # None: it cannot be parsed


def read(path: Path) -> list[Fixture]:
    """The fixtures of a file."""
    loaded = yaml.load(path.read_text("utf-8"), _Loader)  # a SafeLoader
    return [
        Fixture(name, one[":response"].encode("utf-8").removesuffix(b"\r\n"), one.get(":expected"))
        for name, one in loaded[":tests"].items()
    ]


def said(octets: bytes) -> list[Value]:
    """What the tests' own parser reads."""
    if octets.startswith(b"+"):
        return list(octets[1:].decode("latin-1").split())
    return reply_of(octets)


def plain(value: Value) -> Any:
    """A value to compare: letters' case, and atom or string, mean nothing but for NIL; what is left out at an end is NIL."""
    if isinstance(value, list):
        values = [plain(one) for one in value]
        while values and values[-1] is None:
            values.pop()
        return values
    if isinstance(value, String):
        return value.text.lower()
    return None if value.upper() == "NIL" else value.lower()


def compared(values: list[Value]) -> Any:
    """plain(), and the rights of an ACL in one order."""
    found = plain(values)
    return [*found[:2], *["".join(sorted(word)) for word in found[2:]]] if found[:1] == ["acl"] else found


def same(wish: Any, got: Any) -> bool:
    """Whether two plain values are the same, ANY being whatever comes."""
    if isinstance(wish, list) and isinstance(got, list):
        return len(wish) == len(got) and all(same(one, other) for one, other in zip(wish, got, strict=True))
    return wish in (ANY, got)


# What a parser must find


def values_of(expected: Mapping[str, Any]) -> list[Value]:
    """The values of the response that the client made these objects of."""
    data, name = expected["data"], expected.get("name", "")
    if isinstance(data, dict) and data.get("is") == "ResponseText":
        code = code_of(data).decode("latin-1")
        words: list[Value] = list(data["text"].encode("utf-8").decode("latin-1").split())
        return [*([name] if name else []), *(tokens(f"[{code}]".encode("latin-1")) if code else []), *words]
    if name == "FETCH":
        return [str(data["seqno"]), name, [word for item in data["attr"].items() for word in _item(*item)]]
    if name in ("EXISTS", "RECENT", "EXPUNGE"):
        return [str(data), name]
    return [name, *_DATA[name](data)]


def _item(key: str, value: Any) -> list[Value]:
    if key in ("EMAILID", "THREADID", "MAILBOXID") and value is not None:
        return [key, [value]]
    if key == "ENVELOPE":
        return [key, _envelope(value)]
    if key in ("BODY", "BODYSTRUCTURE"):
        return [key, _body(value)]
    if key == "FLAGS":
        return [key, _flags(value)]
    return [key, _text(value)]


def _text(value: Any) -> Value:
    """A scalar, or a list of such."""
    if isinstance(value, list):
        return _texts(value)
    if value is None or isinstance(value, int):
        return "NIL" if value is None else str(value)
    return String(value.encode("utf-8").decode("latin-1"))


def _texts(values: Iterable[Any]) -> list[Value]:
    return [_text(one) for one in values]


def _flags(flags: Iterable[str]) -> list[Value]:
    return [flag.replace(":", "\\", 1) if flag.startswith(":") else flag for flag in flags]


def _mapping(mapping: Mapping[str, Any] | None) -> Value:
    if mapping is None:
        return "NIL"
    return [_text(word) for pair in mapping.items() for word in pair]


def _list(data: Mapping[str, Any]) -> list[Value]:
    return [_flags(data["attr"]), String(data["delim"]), _text(data["name"])]


def _status(data: Mapping[str, Any]) -> list[Value]:
    return [_text(data["mailbox"]), [word for item in data["attr"].items() for word in _item(*item)]]


def _numbers(data: Any) -> list[Value]:
    numbers = data if isinstance(data, list) else data["internal"]
    modseq = None if isinstance(data, list) else data["ivars"]["@modseq"]
    words: list[Value] = [str(number) for number in numbers]
    if modseq:
        words.append(["MODSEQ", str(modseq)])
    return words


def _esearch(data: Mapping[str, Any]) -> list[Value]:
    words: list[Value] = [["TAG", String(data["tag"])]] if data["tag"] else []
    if data["uid"]:
        words.append("UID")
    for name, value in data["data"]:
        words += [name, tokens(_found(value))[0]]
    return words


def _found(value: Any) -> bytes:
    """The value of an item of ESEARCH as it is sent."""
    if isinstance(value, int):
        return b"%d" % value
    if value["is"] == "SequenceSet":
        return str(value["string"]).encode()
    first, last = value["range"]["begin"], value["range"]["end"]
    ends = f"{last}:{first}" if first < 0 else f"{first}:{last}"  # a Ruby range goes upwards
    return f"({ends} {value['results']['string'] if value['results'] else 'NIL'})".encode()


def _threads(data: Iterable[Mapping[str, Any]]) -> list[Value]:
    return [_thread(member) for member in data]


def _thread(member: Mapping[str, Any]) -> list[Value]:
    """thread-list of RFC 5256 §4: an only child stands behind its parent, several in lists of their own."""
    children = [_thread(child) for child in member["children"]]
    head: list[Value] = [] if member["seqno"] is None else [str(member["seqno"])]
    return [*head, *(children[0] if len(children) == 1 else children)]


def _quota(data: Mapping[str, Any]) -> list[Value]:
    return [_text(data["mailbox"]), [ANY, data["usage"], data["quota"]]]  # which resource is not told


def _quotaroot(data: Mapping[str, Any]) -> list[Value]:
    return [_text(data["mailbox"]), *[String(root) for root in data["quotaroots"]]]


def _acl(data: list[Mapping[str, Any]]) -> list[Value]:
    return [data[0]["mailbox"], *[word for entry in data for word in (entry["user"], entry["rights"])]]


_DATA: Mapping[str, Any] = {
    "CAPABILITY": list, "LIST": _list, "LSUB": _list, "XLIST": _list, "STATUS": _status, "SEARCH": _numbers, "SORT": _numbers,
    "ESEARCH": _esearch, "THREAD": _threads, "QUOTA": _quota, "QUOTAROOT": _quotaroot, "ACL": _acl,
    "FLAGS": lambda data: [_flags(data)], "ID": lambda data: [_mapping(data)],
}  # fmt: skip


def _envelope(data: Mapping[str, Any]) -> Value:
    def addresses(name: str) -> Value:
        return "NIL" if data[name] is None else [address(one) for one in data[name]]

    def address(one: Mapping[str, Any]) -> Value:
        return _texts(one[part] for part in ("name", "route", "mailbox", "host"))

    ends = [_text(data["in_reply_to"]), _text(data["message_id"])]
    return [_text(data["date"]), _text(data["subject"]), *map(addresses, _ADDRESSES), *ends]


def _body(data: Mapping[str, Any]) -> list[Value]:
    common = [_disposition(data.get("disposition")), _text(data.get("language")), _text(data.get("location"))]
    extension = [_text(one) for one in data.get("extension") or ()]
    if data["is"] == "BodyTypeMultipart":
        parts: list[Value] = [_body(part) for part in data["parts"] or ()]
        return [*parts, _text(data["subtype"]), _mapping(data["param"]), *common, *extension]
    words: list[Value] = [_text(data["media_type"]), _text(data["subtype"]), _mapping(data["param"])]
    words += [_text(data[name]) for name in ("content_id", "description", "encoding", "size")]
    if data["is"] == "BodyTypeMessage":
        words += [_envelope(data["envelope"]), _body(data["body"])]
    if "lines" in data:
        words.append(_text(data["lines"]))
    return [*words, _text(data.get("md5")), *common, *extension]


def _disposition(data: Mapping[str, Any] | None) -> Value:
    return "NIL" if data is None else [_text(data["dsp_type"]), _mapping(data["param"])]


# What we send


def code_of(text: Mapping[str, Any]) -> bytes:
    """The response code of a ResponseText."""
    code = text.get("code")
    if code is None:
        return b""
    name, data = code["name"], code["data"]
    if isinstance(data, dict) and data["is"] == "InvalidParseData":
        return f"{name} {data['unparsed_data'] or ''}".rstrip().encode()
    if name == "MAILBOXID":
        return f"MAILBOXID ({data})".encode()
    if name == "PERMANENTFLAGS":
        return response.permanentflags(str(flag).encode() for flag in _flags(data))
    return f"{name} {'' if data is None else data}".rstrip().encode()


def rendered(expected: Mapping[str, Any]) -> bytes:
    """The response that we make of these objects, without its CRLF."""
    data, name = expected["data"], expected.get("name", "")
    if expected["is"] == "ContinuationRequest":
        return response.continuation(data["text"]).removesuffix(b"\r\n")
    if isinstance(data, dict) and data.get("is") == "ResponseText":
        tag = expected["tag"].encode() if "tag" in expected else None
        return response.tagged(tag, name, code_of(data) or None, data["text"]).removesuffix(b"\r\n")
    octets: bytes = _RENDERERS[name](data)
    return octets.removesuffix(b"\r\n")


def _words(values: Iterable[Value]) -> list[bytes]:
    return [(value.text if isinstance(value, String) else str(value)).encode("latin-1") for value in values]


def _send_list(data: Mapping[str, Any], verb: bytes = b"LIST") -> bytes:
    name = response.mailbox_name(data["name"], is_utf8=not data["name"].isascii())
    return response.list_line(_words(_flags(data["attr"])), name, verb=verb)


def _send_status(data: Mapping[str, Any]) -> bytes:
    items = [
        (item.encode(), b"(%b)" % value.encode() if isinstance(value, str) else value)
        for item, value in data["attr"].items()
    ]
    return response.status_line(response.mailbox_name(data["mailbox"]), items)


def _send_numbers(data: Any) -> bytes:
    if isinstance(data, list):
        return response.search_line(data)
    return response.search_line(data["internal"], data["ivars"]["@modseq"])


def _send_esearch(data: Mapping[str, Any]) -> bytes:
    items = [(name.encode(), _found(value)) for name, value in data["data"]]
    return response.esearch_line(data["tag"].encode(), data["uid"], items)


def _send_threads(data: list[Mapping[str, Any]]) -> bytes:
    numbers: list[int] = []
    children: dict[int, list[int]] = {}
    size = sum(str(member).count("'seqno'") - str(member).count("'seqno': None") for member in data)
    dummies = itertools.count(size)

    def node(member: Mapping[str, Any]) -> int:
        if member["seqno"] is None:
            at = next(dummies)
        else:
            at = len(numbers)
            numbers.append(member["seqno"])
        if member["children"]:
            children[at] = [node(child) for child in member["children"]]
        return at

    roots = [node(member) for member in data]
    return response.thread_line(threads.render(Forest(size, roots, children), numbers))


def _send_id(data: Mapping[str, str | None] | None) -> bytes:
    if data is None:
        return response.identification(None)
    return response.identification({key.encode(): _octets(value) for key, value in data.items()})


def _send_quota(data: Mapping[str, Any]) -> bytes:
    resource = (b"STORAGE", int(data["usage"]), int(data["quota"]))
    return quota.quota_line(data["mailbox"].encode(), [resource])


def _send_quotaroot(data: Mapping[str, Any]) -> bytes:
    return quota.quotaroot_line(response.mailbox_name(data["mailbox"]), [root.encode() for root in data["quotaroots"]])


def _send_acl(data: list[Mapping[str, Any]]) -> bytes:
    entries = [(acl.Identifier(entry["user"]), entry["rights"]) for entry in data]
    return acl.acl_line(response.mailbox_name(data[0]["mailbox"]), entries)


def _send_fetch(data: Mapping[str, Any]) -> bytes:
    pieces = []
    for key, value in data["attr"].items():
        label = key.encode()
        if key == "ENVELOPE":
            octets = _header(value)
            pieces.append(response.fetch_rendered(label, render_envelope(octets, scan(octets))))
        elif key in ("BODY", "BODYSTRUCTURE"):
            whole = render_bodystructure(_part(value))
            pieces.append(response.fetch_rendered(label, body_of(whole) if key == "BODY" else whole))
        elif "[" in key:
            pieces.append(response.fetch_octets(label, value.encode()))
        elif key == "FLAGS":
            pieces.append(response.fetch_flags(response.flag_list(_words(_flags(value)))))
        elif key == "RFC822.SIZE":
            pieces.append(response.fetch_size(value))
        elif key == "UID":
            pieces.append(response.fetch_uid(value))
        elif key in ("EMAILID", "THREADID"):
            pieces.append(b"%b %b" % (label, b"NIL" if value is None else b"(%b)" % value.encode()))
        else:
            pieces.append(b"%b %b" % (label, response.string(value.encode())))
    return response.fetch(data["seqno"], pieces)


def _header(data: Mapping[str, Any]) -> bytes:
    """A header of which this is the ENVELOPE."""

    def address(one: Mapping[str, Any]) -> str:
        addr_spec = f"{one['mailbox']}@{one['host']}"
        return addr_spec if one["name"] is None else f'"{one["name"]}" <{addr_spec}>'

    fields = {name: data[name] for name in ("date", "subject", "in_reply_to", "message_id")}
    fields |= {name: data[name] and ", ".join(address(one) for one in data[name]) for name in _ADDRESSES}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value is not None]
    return "".join(lines).encode() + b"\r\n"


def _octets(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _parameters(mapping: Mapping[str, str] | None) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in (mapping or {}).items())


def _part(data: Mapping[str, Any]) -> Part:
    """A part of which this is the BODYSTRUCTURE."""
    disposition, language = data.get("disposition"), data.get("language")
    children = [_part(part) for part in data.get("parts") or ()]
    envelope = None
    if data["is"] == "BodyTypeMessage":
        children = [_part(data["body"])]
        octets = _header(data["envelope"])
        envelope = render_envelope(octets, scan(octets))
    if envelope is not None:
        child = children[0]
        fields = {name: getattr(child, name) for name in child.__struct_fields__}
        children = [Part(**{**fields, "envelope": envelope})]
    return Part(
        0, 0, data.get("size", 0), data.get("lines", 0), data["media_type"].encode(), data["subtype"].encode(),
        _parameters(data["param"]), _octets(data.get("encoding")), _octets(data.get("content_id")),
        _octets(data.get("description")), _octets(data.get("md5")),
        disposition and (disposition["dsp_type"].encode(), _parameters(disposition["param"])),
        language and tuple(tag.encode() for tag in ([language] if isinstance(language, str) else language)),
        _octets(data.get("location")), tuple(children),
    )  # fmt: skip


_RENDERERS: Mapping[str, Any] = {
    "CAPABILITY": lambda data: response.capability(token.encode() for token in data),
    "LIST": _send_list, "LSUB": lambda data: _send_list(data, b"LSUB"), "STATUS": _send_status, "SEARCH": _send_numbers,
    "ESEARCH": _send_esearch, "THREAD": _send_threads, "ID": _send_id, "QUOTA": _send_quota, "QUOTAROOT": _send_quotaroot,
    "ACL": _send_acl, "FLAGS": lambda data: response.flags_line(_words(_flags(data))), "FETCH": _send_fetch,
    "EXISTS": response.exists, "RECENT": response.recent, "EXPUNGE": response.expunge,
}  # fmt: skip

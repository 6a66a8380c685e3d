"""What filters read that others have written: scripts, mails with their signatures, records of the DNS, results, archives."""

import asyncio
import zipfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from io import BytesIO
from typing import Any, Literal

from filters.archives import MAX_MEMBERS, read_archive
from filters.authentication.checker import Authentication, Rules
from filters.forged import ForgedFields, forged, without
from filters.mime import Mime, MimeRules, suffix_of
from filters.pipeline import Pipeline
from filters.sender_lists import Entry, Identity, PatternError, SenderList, normal, spelled
from filters.sieve.actions import Keep, Result
from filters.sieve.interpreter import run
from filters.sieve.limits import Limits
from filters.sieve.script import Script, compile_script
from filters.simple.compiling import FaxSign, compiled
from filters.simple.conditions import parse, spell
from filters.simple.settings import Rule, Settings, Vacation, from_json, to_json
from filters.spam.score import Scorer, Thresholds
from filters.spam.sight import Sight
from filters.spam.tokens import tokens_of
from filters.subject import Envelope, Subject
from filters.verdict import AddField
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.authentication_results import pretended
from protocol.message.documents import document_name
from protocol.message.stripping import leaves
from protocol.sieve.errors import Fault, SieveError
from protocol.sieve.language import CAPABILITIES
from tests.feeding import transcripts, turns
from tests.filters.authentication.test_dkim import RECORD, sign
from tests.filters.authentication.test_spf import SUITE
from tests.filters.sieve.running import AROUND, MAIL, NOW, Outside
from tests.mails import CORPORA, as_sent

_LIMITS = Limits(work=3_000, message_octets=1 << 20)
_REQUIRE = f"require [{', '.join(f'{chr(34)}{name}{chr(34)}' for name in CAPABILITIES)}];\n".encode()
_OURS = "mx.example.test"
_PEER = "192.0.2.1"
_SCORER, _THRESHOLDS = Scorer(), Thresholds()

# -- Sieve -------------------------------------------------------------------------------------------------------------


def sieve(octets: bytes) -> None:
    """Any script compiles or is refused with the place; what compiles ends within its limits, over any mail behind a NUL."""
    source, _, mail = octets.partition(b"\0")
    script, faults = _compiled(_REQUIRE + source)
    assert (script is None) == bool(faults)
    assert all(fault.line > 0 and fault.column > 0 for fault in faults)
    if script is None:
        return
    found = _run(script, mail or MAIL)
    assert len(found.actions) <= _LIMITS.actions + 1
    assert found.work <= _LIMITS.work + 10_000
    if found.error is not None:
        assert found.actions == (Keep(is_implicit=True),)
    assert _run(script, mail or MAIL) == found


def _compiled(source: bytes) -> tuple[Script | None, Sequence[Fault]]:
    try:
        return compile_script(source, limits=_LIMITS), ()
    except SieveError as error:
        return None, error.faults


def _run(script: Script, mail: bytes) -> Result:
    found: Result = _driven(run([script], mail, AROUND, Outside(), now=NOW, limits=_LIMITS))
    return found


def _driven(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


def sieve_scripts() -> Iterator[bytes]:
    """Scripts of transcripts, and one for each extension."""
    yield from _SCRIPTS
    for path in transcripts("managesieve"):
        for turn in turns(path.read_text("utf-8")):
            if b"PUTSCRIPT" in turn.client:
                yield turn.client.partition(b"\n")[2]


_SCRIPTS = [
    b'if header :contains "subject" ["a", "b"] { fileinto :copy :create "x"; stop; } elsif true { discard; } else { keep; }',
    b'if address :domain :regex "from" "(.*)[.]net" { set :upper "d" "${1}"; redirect "a@${d}.example"; }',
    b'foreverypart { if header :mime :param "filename" :matches ["content-type"] "*.exe" { replace "gone"; break; } }',
    b'extracttext :first 10 "t"; enclose :subject "${t}" "text"; addheader :last "X-A" "${t}"; deleteheader :index 1 "to";',
    b'vacation :days 3 :addresses ["b@example.org"] :subject "away" text:\nGone.\n.\n;',
    b'notify :importance "1" :message "m" "mailto:a@example.org?subject=x"; if duplicate :seconds 60 { discard; }',
    b'if anyof (date :zone "+0100" "date" "hour" "08", currentdate :value "ge" "year" "2000") { setflag ["\\\\Seen", "x"]; }',
    b'if allof (spamtest :percent :value "ge" :comparator "i;ascii-numeric" "50", not virustest "1") { reject "no"; }',
    b'include :personal :optional "a"; global "g"; return;',
    b'if header :list "from" ":addrbook:default" { fileinto :specialuse "\\\\Junk" "Junk"; }\0From: a@b.example\r\n\r\nx',
    b'if body :content "text" :matches "*a*b*c*" { ereject text:\n..\n.\n; }\0Content-Type: text/html\r\n\r\n<b>abc</b>',
    b'if environment "domain" "x" { keep :flags "a"; } if metadata "INBOX" "/private/comment" "x" { stop; }',
]

# -- who a message is from ---------------------------------------------------------------------------------------------


class _Zone:
    """A DNS in which all names have the same records: the text, and the address or names that it says."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    async def texts(self, name: str) -> Sequence[bytes]:
        """One for all."""
        return [line for line in self._text.split(b"\n")[:4] if line]

    async def addresses(self, name: str) -> Sequence[str]:
        """Of both families."""
        return [_PEER, "2001:db8::1"] if len(name) % 2 else []

    async def family(self, name: str, kind: Literal["A", "AAAA"]) -> Sequence[str]:
        """One of the peer, for half of the names."""
        return [_PEER if kind == "A" else "2001:db8::1"] if len(name) % 2 else []

    async def exchangers(self, name: str) -> Sequence[tuple[int, str]]:
        """The name itself."""
        return [(10, name)]

    async def pointers(self, address: str) -> Sequence[str]:
        """A name that is in no text."""
        return ["mail.example.net"]

    async def exists(self, name: str) -> bool:
        """Every other one."""
        return bool(len(name) % 2)


def authentication(octets: bytes) -> None:
    """Any mail, in front of any records behind a NUL, has results that a field can tell, and the field is known as ours."""
    mail, _, records = octets.partition(b"\0")
    checker = Authentication(Rules(_OURS), _Zone(records), clock=lambda: 1_700_000_000.0)
    envelope = Envelope("0" * 16, _PEER, "mail.example.net", False, False, AddrSpec("a", "example.net"), ())
    verdicts = asyncio.run(checker.check(Subject(envelope, mail)))
    told = [verdict for verdict in verdicts if isinstance(verdict, AddField)]
    assert len(told) == 1
    assert len(pretended(told[0].octets, [_OURS])) == 1
    told[0].octets.decode("ascii")


def signed_mails() -> Iterator[bytes]:
    """Mails with signatures and their keys; records of SPF and DMARC."""
    mail = b"From: a@example.net\r\nSubject: x\r\n\r\nbody\r\n"
    yield sign(mail) + b"\0" + RECORD.encode()
    yield mail + b"\0v=DMARC1; p=reject; sp=none; t=y; rua=mailto:a@example.net\nv=spf1 mx a:%{d} -all"
    for path in sorted((CORPORA / "dkimpy").iterdir()):
        yield as_sent(path) + b"\0" + RECORD.encode()
    records = {
        text if isinstance(text, str) else "".join(text)
        for scenario in SUITE
        for entries in scenario["zonedata"].values()
        for entry in entries
        if isinstance(entry, dict)
        for kind, text in entry.items()
        if kind in ("SPF", "TXT") and text != "NONE"
    }
    for record in sorted(records):
        yield mail + b"\0" + record.encode("utf-8", "replace").replace(b"\n", b" ")


def results(octets: bytes) -> None:
    """Of any header section nothing is left that pretends to be ours, and nothing else is missing."""
    header = octets + b"\r\n"
    found = forged(header, [_OURS])
    rest = without(header, found)
    assert forged(rest, [_OURS]) == []
    assert len(rest) == len(header) - sum(field.end - field.start for field in found)
    envelope = Envelope("0" * 16, _PEER, "h", False, False, None, ())
    removing = ForgedFields(_OURS, lambda _: False)(Subject(envelope, header + b"\r\nbody"))
    assert b"".join(each.octets for each in removing) == b"".join(header[field.start : field.end] for field in found)


def result_fields() -> Iterator[bytes]:
    """Fields that are ours, that only look so, and that are others'."""
    for body in (
        b"mx.example.test; spf=pass smtp.mailfrom=a@b.example",
        b'"mx.example.test" 1; dkim=pass (good) header.d=b.example',
        b'(a (nested) comment) mx.example.test (b);\r\n dmarc=fail reason="no"',
        b"mx.example.test.evil.example; none",
        b"other.example; arc=pass (mx.example.test)",
    ):
        yield b"From: a\r\nAuthentication-Results: " + body
        yield b"AUTHENTICATION-RESULTS : " + body + b"\r\nX-Spam-Flag: NO\r\nX-Virus-Status:\r\n\tclean"


# -- what people set -------------------------------------------------------------------------------------------------


def senders(octets: bytes) -> None:
    """Any pattern is refused, or has one form; whom it fits it fits whatever way it was written. Lines: patterns, then senders."""
    patterns, _, written = octets.decode("utf-8", "replace").partition("\0")
    entries = []
    for line in patterns.split("\n"):
        with suppress(PatternError):
            pattern = normal(line)
            assert normal(pattern) == pattern
            entries.append(Entry(pattern, "blocked", is_own=True))
    listed = SenderList(entries)
    for line in written.split("\n"):
        peer, _, path = line.partition(" ")
        identities = []
        with suppress(AddressError):
            identities.append(Identity(spelled(parse_addr_spec(path)), is_proven=False))
        match = listed.judge(peer, identities)
        assert match is None or match.entry in entries


def patterns() -> Iterator[bytes]:
    """Every kind, with somebody whom it fits."""
    for pattern in (
        "a@b.example",
        "b.example",
        "*.b.example",
        "news-*@b.example",
        "192.0.2.0/24",
        "2001:db8::/32",
        "*@*.b",
    ):
        yield f"{pattern}\0192.0.2.7 a@b.example\n2001:db8::1 news-1@sub.b.example".encode()


def rules(octets: bytes) -> None:
    """Any condition in words is refused, or is read again as what it was; and what rules are made of is a script that compiles."""
    text = octets.decode("utf-8", "replace")
    try:
        condition = parse(text)
        rule = Rule(name="x", conditions=(condition,), file_into="x")
        settings = from_json(
            to_json(Settings(rules=(rule,), vacation=Vacation(text=text or "x", conditions=(condition,))))
        )
    except ValueError:
        return
    assert parse(spell(condition)) == condition
    script = compiled(settings, UTC, FaxSign())
    assert script is not None
    compile_script(script)


def conditions() -> Iterator[bytes]:
    """One of each kind."""
    for text in (
        "from is boss@example.org or chief@example.org",
        'not subject contains "this or that" or Newsletter',
        "recipient matches *@team.example.org",
        "header List-Id exists",
        "body contains invoice",
        "size over 5M",
        "not attachment",
        "contact",
        "fax",
    ):
        yield text.encode()


# -- content -----------------------------------------------------------------------------------------------------------


def content(octets: bytes) -> None:
    """Any mail is judged by structure and by words without an error, and alike when it is asked twice."""
    rules = MimeRules(forbidden_suffixes=frozenset({"exe"}), forbidden="strip", encrypted_archives="strip")
    envelope = Envelope("0" * 16, _PEER, "h", False, False, None, ())
    pipeline = Pipeline(content=[Mime(rules)])
    subject = Subject(envelope, octets)
    decision = asyncio.run(pipeline.check_content(subject))
    assert not decision.results[0].failure
    parts = dict(leaves(subject.scanned.root))
    assert all(each.part in parts for each in decision.stripped)
    for part in parts.values():
        suffix = suffix_of(document_name(part))
        assert suffix == suffix.lower()


def archive(octets: bytes) -> None:
    """Any attachment is an archive with so many names, or none."""
    found = read_archive(octets)
    if found is not None:
        assert len(found.names) <= MAX_MEMBERS


def archives() -> Iterator[bytes]:
    """The first octets of all kinds; a zip with names."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("a.exe", b"MZ")
        zipped.writestr("b/\u202e.txt", b"")
    yield file.getvalue()
    yield b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(64))
    yield b"Rar!\x1a\x07\x00" + bytes(range(64))
    yield b"Rar!\x1a\x07\x01\x00" + bytes(range(64))


def spam(octets: bytes) -> None:
    """Any mail has a score with reasons, in fields that are US-ASCII, and words that are numbers."""
    sight = Sight(octets)
    verdict = _SCORER.combine(sight, None)
    for field in verdict.fields(_THRESHOLDS):
        field.octets.decode("ascii")
    verdict.explained("de")
    assert all(isinstance(token, int) for token in tokens_of(sight))

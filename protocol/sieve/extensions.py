"""Commands, tests and capabilities of the extensions; which document each is from stands in protocol/RFCS.md."""

from protocol.sieve.matching import COMPARE, FCC, INDEX, MATCH, MODIFIERS
from protocol.sieve.signatures import Kind, Option, Signature, table

S, L, N = Kind.STRING, Kind.STRINGS, Kind.NUMBER
_ZONE = (Option("zone", S, group="zone"), Option("originalzone", group="zone"))

COMMANDS = table(
    Signature("reject", (("reason", S),), needs=("reject",)),  # RFC 5429 §2.2
    Signature("ereject", (("reason", S),), needs=("ereject",)),  # RFC 5429 §2.1
    Signature("setflag", (("variable name", S), ("flags", L)), needs=("imap4flags",), least=1),  # RFC 5232 §3.1
    Signature("addflag", (("variable name", S), ("flags", L)), needs=("imap4flags",), least=1),
    Signature("removeflag", (("variable name", S), ("flags", L)), needs=("imap4flags",), least=1),
    Signature("set", (("name", S), ("value", S)), MODIFIERS, needs=("variables",)),  # RFC 5229 §4
    Signature(  # RFC 5230 §4, RFC 6131 §2, RFC 8580 §3
        "vacation",
        (("reason", S),),
        (
            Option("days", N, group="period"),
            Option("seconds", N, group="period", needs="vacation-seconds"),
            Option("subject", S),
            Option("from", S),
            Option("addresses", L),
            Option("mime"),
            Option("handle", S),
            *FCC,
        ),
        needs=("vacation",),
    ),
    Signature(  # RFC 5435 §3
        "notify",
        (("method", S),),
        (
            Option("from", S),
            Option("importance", S, only=("1", "2", "3")),
            Option("options", L),
            Option("message", S),
            *FCC,
        ),
        needs=("enotify",),
    ),
    Signature(  # RFC 6609 §3.2
        "include",
        (("script", S),),
        (
            Option("personal", group="location"),
            Option("global", group="location"),
            Option("once"),
            Option("optional"),
        ),
        needs=("include",),
    ),
    Signature("return", needs=("include",)),
    Signature("global", (("names", L),), needs=("include",)),
    Signature("addheader", (("field name", S), ("value", S)), (Option("last"),), needs=("editheader",)),  # RFC 5293 §4
    Signature(  # RFC 5293 §5
        "deleteheader",
        (("field name", S), ("value patterns", L)),
        (Option("index", N), Option("last"), *COMPARE, *MATCH),
        needs=("editheader",),
        least=1,
        drops_last=True,
    ),
    Signature("foreverypart", options=(Option("name", S),), needs=("foreverypart",), has_block=True),  # RFC 5703 §3.1
    Signature("break", options=(Option("name", S),), needs=("foreverypart",)),
    Signature(  # RFC 5703 §5
        "replace",
        (("replacement", S),),
        (Option("mime"), Option("subject", S), Option("from", S)),
        needs=("replace",),
    ),
    Signature(  # RFC 5703 §6
        "enclose", (("text", S),), (Option("subject", S), Option("headers", L)), needs=("enclose",)
    ),
    Signature("extracttext", (("name", S),), (*MODIFIERS, Option("first", N)), needs=("extracttext",)),  # RFC 5703 §7
    Signature("error", (("message", S),), needs=("ihave",)),  # RFC 5463 §5
)

_MATCHING = (*COMPARE, *MATCH)
TESTS = table(
    Signature("string", (("source", L), ("key list", L)), _MATCHING, needs=("variables",), is_test=True),
    Signature(  # RFC 5232 §4
        "hasflag",
        (("variable list", L), ("flags", L)),
        _MATCHING,
        needs=("imap4flags",),
        is_test=True,
        least=1,
    ),
    Signature(  # RFC 5173 §4
        "body",
        (("key list", L),),
        (
            Option("raw", group="transform"),
            Option("content", L, group="transform"),
            Option("text", group="transform"),
            *_MATCHING,
        ),
        needs=("body",),
        is_test=True,
    ),
    Signature("valid_notify_method", (("URIs", L),), needs=("enotify",), is_test=True),  # RFC 5435 §4
    Signature(
        "notify_method_capability",
        (("URI", S), ("capability", S), ("key list", L)),
        _MATCHING,
        needs=("enotify",),
        is_test=True,
    ),
    Signature("environment", (("name", S), ("key list", L)), _MATCHING, needs=("environment",), is_test=True),
    Signature(  # RFC 5260 §4
        "date",
        (("header name", S), ("date part", S), ("key list", L)),
        (*_ZONE, *INDEX, *_MATCHING),
        needs=("date",),
        is_test=True,
    ),
    Signature(
        "currentdate",
        (("date part", S), ("key list", L)),
        (Option("zone", S, group="zone"), *_MATCHING),
        needs=("date",),
        is_test=True,
    ),
    Signature(  # RFC 5235 §2
        "spamtest",
        (("value", S),),
        (Option("percent", needs="spamtestplus"), *_MATCHING),
        needs=("spamtest", "spamtestplus"),
        is_test=True,
    ),
    Signature("virustest", (("value", S),), _MATCHING, needs=("virustest",), is_test=True),
    Signature("mailboxexists", (("mailbox names", L),), needs=("mailbox",), is_test=True),  # RFC 5490 §3.1
    Signature("mailboxidexists", (("mailbox ids", L),), needs=("mailboxid",), is_test=True),  # RFC 9042 §3
    Signature(
        "metadata",
        (("mailbox", S), ("annotation name", S), ("key list", L)),
        _MATCHING,
        needs=("mboxmetadata",),
        is_test=True,
    ),
    Signature("metadataexists", (("mailbox", S), ("annotation names", L)), needs=("mboxmetadata",), is_test=True),
    Signature(
        "servermetadata",
        (("annotation name", S), ("key list", L)),
        _MATCHING,
        needs=("servermetadata",),
        is_test=True,
    ),
    Signature("servermetadataexists", (("annotation names", L),), needs=("servermetadata",), is_test=True),
    Signature(  # RFC 8579 §3
        "specialuse_exists",
        (("mailbox", S), ("special-use attributes", L)),
        needs=("special-use",),
        is_test=True,
        least=1,
    ),
    Signature(  # RFC 7352 §3
        "duplicate",
        options=(
            Option("handle", S),
            Option("header", S, group="unique id"),
            Option("uniqueid", S, group="unique id"),
            Option("seconds", N),
            Option("last"),
        ),
        needs=("duplicate",),
        is_test=True,
    ),
    Signature("ihave", (("capabilities", L),), needs=("ihave",), is_test=True),  # RFC 5463 §4
    Signature("valid_ext_list", (("list names", L),), needs=("extlists",), is_test=True),  # RFC 6134 §2.7
)

CAPABILITIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("reject", "ereject", "vacation", "subaddress", "relational", "regex", "imap4flags"), ()),
    "comparator-i;ascii-numeric": (),
    "comparator-i;unicode-casemap": (),  # RFC 5051
    "vacation-seconds": ("vacation",),  # RFC 6131 §1
    "spamtestplus": ("spamtest",),
    **dict.fromkeys(("copy", "include", "body", "variables", "enotify", "environment", "mailbox", "mailboxid"), ()),
    **dict.fromkeys(("mboxmetadata", "servermetadata", "date", "index", "ihave", "duplicate", "mime"), ()),
    **dict.fromkeys(("foreverypart", "replace", "enclose", "extracttext", "editheader", "spamtest"), ()),
    **dict.fromkeys(("virustest", "special-use", "fcc", "extlists", "redirect-dsn", "imapsieve"), ()),
}

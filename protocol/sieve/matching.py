"""Tagged arguments that many commands and tests share."""

from protocol.sieve.signatures import Kind, Option

COMPARE = (Option("comparator", Kind.STRING, group="comparator"),)
MATCH = (
    Option("is", group="match type"),
    Option("contains", group="match type"),
    Option("matches", group="match type"),
    Option("count", Kind.STRING, group="match type", needs="relational", only=("gt", "ge", "lt", "le", "eq", "ne")),
    Option("value", Kind.STRING, group="match type", needs="relational", only=("gt", "ge", "lt", "le", "eq", "ne")),
    Option("regex", group="match type", needs="regex"),
    Option("list", group="match type", needs="extlists"),
)
ADDRESS_PART = (
    Option("all", group="address part"),
    Option("localpart", group="address part"),
    Option("domain", group="address part"),
    Option("user", group="address part", needs="subaddress"),
    Option("detail", group="address part", needs="subaddress"),
)
INDEX = (Option("index", Kind.NUMBER, needs="index"), Option("last", needs="index"))
MIME_ANY = (Option("mime", needs="mime"), Option("anychild", needs="mime"))
MIME = (
    *MIME_ANY,
    Option("type", group="MIME option", needs="mime"),
    Option("subtype", group="MIME option", needs="mime"),
    Option("contenttype", group="MIME option", needs="mime"),
    Option("param", Kind.STRINGS, group="MIME option", needs="mime"),
)
COPY = Option("copy", needs="copy")
FLAGS = Option("flags", Kind.STRINGS, needs="imap4flags")
TARGET = (
    Option("create", needs="mailbox"),
    Option("mailboxid", Kind.STRING, needs="mailboxid"),
    Option("specialuse", Kind.STRING, needs="special-use"),
)
FCC = (Option("fcc", Kind.STRING, needs="fcc"), FLAGS, *TARGET)
MODIFIERS = (
    Option("lower", group="case"),
    Option("upper", group="case"),
    Option("lowerfirst", group="case of the first letter"),
    Option("upperfirst", group="case of the first letter"),
    Option("quotewildcard", group="quoting"),
    Option("quoteregex", group="quoting", needs="regex"),
    Option("encodeurl", group="encoding", needs="enotify"),
    Option("length", group="length"),
)

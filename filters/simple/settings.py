"""What an account may set: values only, which check themselves. JSON in the database, Sieve when mail comes in.

Rules are followed in their order; the first that files, forwards or discards a message without keeping it is the last.
"""

import re
from datetime import date
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

_LINE = r"^[^\x00-\x1f\x7f]*\Z"  # it stands in a comment, a header field or an address: nothing ends it early
_FIELD_NAME = r"^[!-9;-~]+\Z"  # RFC 5322 §3.6.8, ftext
_LEVELS = r"^(?:[^/\x00-\x1f\x7f]+(?:/[^/\x00-\x1f\x7f]+)*)?\Z"  # of a mailbox name: none is empty
_FLAG = r"^(?:\\(?:Seen|Answered|Flagged|Deleted|Draft)|[!#$&'+-\[^-z|}~]+)\Z"  # RFC 9051 §9, flag-keyword is an atom
_MANY = 50  # of whatever stands in a list, ours

Line: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500, pattern=_LINE)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100, pattern=_LINE)]
Lines: TypeAlias = Annotated[tuple[Line, ...], Meta(min_length=1, max_length=_MANY)]
Addresses: TypeAlias = Annotated[tuple[Line, ...], Meta(max_length=_MANY)]
SpamAction: TypeAlias = Literal["none", "junk", "delete"]
Needs: TypeAlias = Literal["all", "any"]

RECIPIENT = ("to", "cc", "bcc")  # the fields that name a recipient


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Header(_Value, frozen=True, tag_field="about", tag="header"):
    """Header fields: their decoded text, or, compared as a whole, the addresses in them."""

    field: Annotated[str, Meta(max_length=100, pattern=_FIELD_NAME)]  # "recipient" are those of RECIPIENT
    match: Literal["contains", "is", "matches", "exists"] = "contains"
    values: Addresses = ()  # any of them; none with "exists"
    is_not: bool = False

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError."""
        if bool(self.values) == (self.match == "exists"):
            raise ValueError("values belong to every comparison, and to nothing else")


class Body(_Value, frozen=True, tag_field="about", tag="body"):
    """Text in the body, decoded, HTML or not."""

    values: Lines  # any of them
    is_not: bool = False


class Size(_Value, frozen=True, tag_field="about", tag="size"):
    """The size of the whole message."""

    over: bool  # False: under
    octets: Annotated[int, Meta(ge=1, le=1 << 31)]
    is_not: bool = False


class Attachment(_Value, frozen=True, tag_field="about", tag="attachment"):
    """Whether anything is attached."""

    is_not: bool = False


class Contact(_Value, frozen=True, tag_field="about", tag="contact"):
    """Whether the author is in the account's address book."""

    is_not: bool = False


class Fax(_Value, frozen=True, tag_field="about", tag="fax"):
    """Whether it is a fax; the host knows how to tell (FaxSign)."""

    is_not: bool = False


Condition: TypeAlias = Header | Body | Size | Attachment | Contact | Fax
Conditions: TypeAlias = Annotated[tuple[Condition, ...], Meta(max_length=_MANY)]


class Rule(_Value, frozen=True):
    """What to do with mail that meets conditions; without any, with all mail."""

    name: Name
    conditions: Conditions = ()
    needs: Needs = "all"  # of the conditions
    flags: Annotated[tuple[Annotated[str, Meta(max_length=100, pattern=_FLAG)], ...], Meta(max_length=_MANY)] = ()
    notify: Annotated[tuple[Line, ...], Meta(max_length=_MANY)] = ()  # URIs, RFC 5435 §3.1
    file_into: Annotated[str, Meta(max_length=500, pattern=_LEVELS)] = ""  # a mailbox, made when it is missing
    forward_to: Addresses = ()
    discard: bool = False
    keep: bool = False  # in the inbox as well; later rules are followed

    def __post_init__(self) -> None:
        """Check what belongs together. Raises ValueError."""
        places = bool(self.file_into or self.forward_to)
        if self.discard and (places or self.keep or self.flags):
            raise ValueError("what is discarded cannot be filed, forwarded, kept or flagged")
        if self.keep and not places:
            raise ValueError("it is kept anyway: only what is filed or forwarded can be kept as well")
        if not (places or self.discard or self.flags or self.notify):
            raise ValueError("the rule does nothing")

    @property
    def decides(self) -> bool:
        """Whether later rules are not followed."""
        return self.discard or (bool(self.file_into or self.forward_to) and not self.keep)


class Forwarding(_Value, frozen=True):
    """All mail that is no spam and that no rule discards goes on to other addresses."""

    addresses: Annotated[tuple[Line, ...], Meta(min_length=1, max_length=_MANY)]
    keep: bool = True  # here as well, where the rules put it


class Vacation(_Value, frozen=True):
    """The autoresponder. Whom it never answers, RFC 3834 and RFC 5230 §4.6 say."""

    text: Annotated[str, Meta(min_length=1, max_length=20_000, pattern=r"^[^\x00]*\Z")]
    subject: Annotated[str, Meta(max_length=250, pattern=_LINE)] = ""  # "": that of the message, behind "Auto:"
    starts: date | None = None  # the first day, in the account's time zone
    ends: date | None = None  # the last day
    days: Annotated[int, Meta(ge=1, le=365)] = 7  # within which nobody is answered twice
    conditions: Conditions = ()  # what mail is answered; none: all
    needs: Needs = "all"
    enabled: bool = True

    def __post_init__(self) -> None:
        """Check the dates. Raises ValueError."""
        if self.starts and self.ends and self.starts > self.ends:
            raise ValueError("it would end before it starts")
        if any(day is not None and not 1970 <= day.year <= 2999 for day in (self.starts, self.ends)):
            raise ValueError("years go from 1970 to 2999")
        if not self.text.strip():
            raise ValueError("the answer has no text")


class Settings(_Value, frozen=True):
    """All of an account's simple settings. The default does nothing."""

    rules: tuple[Rule, ...] = ()
    spam: SpamAction = "none"
    junk_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None  # after which the keeper empties Junk; None: never
    forwarding: Forwarding | None = None
    vacation: Vacation | None = None
    time_zone: Annotated[str, Meta(max_length=100, pattern=_LINE)] = ""  # of the IANA database; "": the host's

    def __post_init__(self) -> None:
        """Check the names. Raises ValueError."""
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules have one name")


_EXPRESSION = re.compile(r"Expected `str` matching regex .*(?= - at )")
_DECODER = msgspec.json.Decoder(Settings)


def from_json(document: str | bytes) -> Settings:
    """Read what to_json() wrote, or somebody else. Raises ValueError, which says where and why."""
    try:
        return _DECODER.decode(document)
    except msgspec.ValidationError as error:
        raise ValueError(_EXPRESSION.sub("Characters that are not possible", str(error))) from error


def to_json(settings: Settings) -> str:
    """The document, without what is at its default."""
    return msgspec.json.encode(settings).decode()

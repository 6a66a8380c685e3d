"""SMTP command lines, RFC 5321 §4.1.1, and LHLO of RFC 2033: the octets of one line in, one typed command out.

parse_command raises CommandError, which carries the reply, and nothing else, whatever the octets. It holds no state:
which command may come when is the session's business.
"""

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from protocol.address import AddrSpec, is_address_literal
from protocol.smtp.grammar import GrammarError, expect_forward_path, expect_parameters, expect_reverse_path
from protocol.smtp.parameters import (
    BAD_SYNTAX,
    INTAKE_PARAMETERS,
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    CommandError,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from protocol.smtp.reply import reply

NOT_RECOGNIZED = reply(500, "5.5.1", "command not recognized")
NOT_TEXT = reply(500, "5.5.2", "command line has control characters or is no UTF-8")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "address has non-ASCII characters, which need SMTPUTF8")
MALFORMED_HELO = reply(501, BAD_SYNTAX, "expected a domain or an address literal")
MALFORMED_SIZE = reply(501, BAD_SYNTAX, "expected BDAT size [LAST]")
MALFORMED_AUTH = reply(501, BAD_SYNTAX, "expected AUTH mechanism [initial-response]")
NO_ARGUMENT = reply(501, BAD_SYNTAX, "command takes no argument")


@dataclass(frozen=True, slots=True)
class Hello:
    """HELO SP Domain, EHLO or LHLO SP (Domain / address-literal): RFC 5321 §4.1.1.1, RFC 2033 §4.1."""

    verb: str
    domain: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM:Reverse-path [SP Mail-parameters], RFC 5321 §4.1.1.2."""

    reverse_path: AddrSpec | None  # None is the null reverse-path <>, RFC 5321 §4.5.5
    parameters: MailParameters
    has_parameters: bool = False


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO:Forward-path [SP Rcpt-parameters], RFC 5321 §4.1.1.3."""

    forward_path: AddrSpec
    parameters: RcptParameters
    has_parameters: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """DATA, RFC 5321 §4.1.1.4."""


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT SP chunk-size [SP "LAST"], RFC 3030 §2. The chunk follows the line at once."""

    size_octets: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET, RFC 5321 §4.1.1.5."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY SP String, RFC 5321 §4.1.1.6. The string is not looked at."""


@dataclass(frozen=True, slots=True)
class Help:
    """HELP [SP String], RFC 5321 §4.1.1.8."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP [SP String], RFC 5321 §4.1.1.9."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT, RFC 5321 §4.1.1.10."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS, RFC 3207 §4."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH SP mechanism [SP initial-response], RFC 4954 §4."""

    mechanism: bytes  # as written: names are case-insensitive
    initial: bytes | None = field(repr=False)  # still in base64; "=" is the empty response


Command = Auth | Hello | Mail | Rcpt | Data | Bdat | Rset | Vrfy | Help | Noop | Quit | StartTls

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # sasl-mech, RFC 4422 §3.1
_CHUNK = re.compile(r"([0-9]{1,20})(?: +(LAST))? *", re.IGNORECASE)
# Domain, and what hosts call themselves in the wild: labels with underscores, a dot at the end. It goes into Received as
# it is only when it is a Domain (protocol/smtp/received.py).
_HELO_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_.])?")


def parse_command(octets: bytes, offered: AbstractSet[str] = INTAKE_PARAMETERS) -> Command:
    """Parse one line without its CRLF; offered are the parameters that MAIL may have. Raises CommandError."""
    try:
        line = octets.decode()
    except UnicodeDecodeError:
        raise CommandError(NOT_TEXT) from None
    if not (line.isascii() and line.isprintable()) and _CONTROL.search(line) is not None:
        raise CommandError(NOT_TEXT)
    verb, _, argument = line.partition(" ")
    verb = verb.upper()
    if verb == "MAIL":
        return _mail(argument, offered)
    production = _PRODUCTIONS.get(verb)
    if production is None:
        raise CommandError(NOT_RECOGNIZED)
    return production(verb, argument)


def _hello(verb: str, argument: str) -> Hello:
    domain = argument.strip(" ")
    if _HELO_DOMAIN.fullmatch(domain) is None and not is_address_literal(domain):
        raise CommandError(MALFORMED_HELO)
    return Hello(verb, domain)


def _mail(argument: str, offered: AbstractSet[str]) -> Mail:
    if argument[:5].upper() != "FROM:":
        raise CommandError(reply(501, BAD_SYNTAX, "expected MAIL FROM:<address>"))
    try:
        # RFC 5321 §3.3 allows no space behind the colon; too many programs send one, and it has only one meaning.
        reverse_path, rest = expect_reverse_path(argument[5:].lstrip(" "))
    except GrammarError as error:
        raise CommandError(reply(501, "5.1.7", f"MAIL FROM: {error}")) from error
    if not rest:
        parameters, is_smtputf8 = NO_MAIL_PARAMETERS, False
    else:
        parameters = mail_parameters(_parameters(rest), offered)
        is_smtputf8 = parameters.is_smtputf8
    if not is_smtputf8 and not argument.isascii():
        raise CommandError(NEEDS_SMTPUTF8)
    return Mail(reverse_path, parameters, parameters is not NO_MAIL_PARAMETERS)


def _rcpt(_: str, argument: str) -> Rcpt:
    if argument[:3].upper() != "TO:":
        raise CommandError(reply(501, BAD_SYNTAX, "expected RCPT TO:<address>"))
    try:
        forward_path, rest = expect_forward_path(argument[3:].lstrip(" "))
    except GrammarError as error:
        raise CommandError(reply(501, "5.1.3", f"RCPT TO: {error}")) from error
    parameters = rcpt_parameters(_parameters(rest)) if rest else NO_RCPT_PARAMETERS
    return Rcpt(forward_path, parameters, parameters is not NO_RCPT_PARAMETERS)


def _parameters(rest: str) -> Mapping[str, str | None]:
    try:
        return expect_parameters(rest)
    except GrammarError as error:
        raise CommandError(reply(501, BAD_SYNTAX, str(error))) from error


def _bdat(_: str, argument: str) -> Bdat:
    found = _CHUNK.fullmatch(argument)
    if found is None:
        raise CommandError(MALFORMED_SIZE)
    return Bdat(int(found[1]), found[2] is not None)


def _auth(_: str, argument: str) -> Auth:
    words = argument.split()
    if not 1 <= len(words) <= 2 or not argument.isascii() or _MECHANISM.fullmatch(words[0]) is None:
        raise CommandError(MALFORMED_AUTH)
    return Auth(words[0].encode(), words[1].encode() if len(words) == 2 else None)


def _vrfy(_: str, argument: str) -> Vrfy:
    if not argument.strip(" "):
        raise CommandError(reply(501, BAD_SYNTAX, "expected VRFY string"))
    return Vrfy()


def _without_argument(command: Command) -> Callable[[str, str], Command]:
    def production(_: str, argument: str) -> Command:
        if argument.strip(" "):
            raise CommandError(NO_ARGUMENT)
        return command

    return production


def _with_any_argument(command: Command) -> Callable[[str, str], Command]:
    return lambda _verb, _argument: command


_PRODUCTIONS: dict[str, Callable[[str, str], Command]] = {
    "EHLO": _hello,
    "HELO": _hello,
    "LHLO": _hello,
    "RCPT": _rcpt,
    "DATA": _without_argument(Data()),
    "BDAT": _bdat,
    "RSET": _without_argument(Rset()),
    "VRFY": _vrfy,
    "HELP": _with_any_argument(Help()),
    "NOOP": _with_any_argument(Noop()),
    "QUIT": _without_argument(Quit()),
    "STARTTLS": _without_argument(StartTls()),
    "AUTH": _auth,
}

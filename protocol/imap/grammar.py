"""The grammar of commands, RFC 3501 §9 "command": one complete command in, one dataclass of command.py out.

APPEND and REPLACE are in append.py, since the reader takes their messages as they come.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Literal

from protocol.imap import command
from protocol.imap.acl import expect_deleteacl, expect_getacl, expect_listrights, expect_myrights, expect_setacl
from protocol.imap.command import Command
from protocol.imap.compress import expect_compress
from protocol.imap.criteria import expect_search
from protocol.imap.cursor import (
    CommandError,
    Cursor,
    expect_astring,
    expect_atom,
    expect_list,
    expect_nstring,
    expect_number,
    expect_string,
)
from protocol.imap.fetch import expect_fetch_attributes
from protocol.imap.flags import expect_flags_to_store
from protocol.imap.listing import expect_create, expect_list_command, expect_lsub, expect_status
from protocol.imap.metadata import expect_getmetadata, expect_setmetadata
from protocol.imap.modifiers import (
    NO_MODIFIERS,
    Resync,
    expect_fetch_modifiers,
    expect_select_parameters,
    expect_unchanged_since,
)
from protocol.imap.names import expect_mailbox
from protocol.imap.notify import expect_notify
from protocol.imap.ordering import expect_cancel_update, expect_multi_search, expect_sort, expect_thread
from protocol.imap.quota import expect_getquota, expect_getquotaroot, expect_setquota
from protocol.imap.sequence import sequence_set

Production = Callable[[Cursor, bytes], Command]

# tag = 1*<any ASTRING-CHAR except "+">; its length is ours: it comes back in every answer
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,255}')
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")

# RFC 2971 §3.3
_ID_PAIRS, _ID_NAME_OCTETS, _ID_VALUE_OCTETS = 30, 30, 1024


def tag_of(octets: bytes) -> bytes | None:
    """The tag at the beginning of a line, to answer what cannot be parsed further; None if there is none."""
    found = _TAG.match(octets)
    return found[0] if found and (found.end() == len(octets) or octets[found.end()] == 0x20) else None


def expect_head(cursor: Cursor) -> tuple[bytes, bytes]:
    """`tag SP verb`, the verb in upper case and known."""
    found = _TAG.match(cursor.octets, cursor.position)
    if found is None:
        cursor.fail("a tag")
    cursor.position = found.end()
    cursor.expect_space()
    verb = cursor.take_word()
    if verb is None:
        cursor.fail("a command")
    if verb not in _PRODUCTIONS:
        cursor.refuse("unknown command")
    return found[0], verb


# command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
def expect_command(cursor: Cursor) -> Command:
    """Parse a complete command. Raises CommandError, which carries the reply, and nothing else."""
    tag, verb = expect_head(cursor)
    found = _PRODUCTIONS[verb](cursor, tag)
    cursor.expect_end()
    return found


def decode_base64(octets: bytes) -> bytes:
    """A line of AUTHENTICATE (RFC 3501 §9 "base64"). Raises CommandError."""
    if len(octets) % 4 or not _BASE64.fullmatch(octets):
        raise CommandError("BAD", None, "expected base64")
    try:
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        raise CommandError("BAD", None, "expected base64") from None


# authenticate = "AUTHENTICATE" SP auth-type [SP (base64 / "=")]        (RFC 4959 §7)
def _authenticate(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    mechanism = expect_atom(cursor, "an authentication mechanism").upper()
    if cursor.is_at_end():
        return command.Authenticate(tag, mechanism, None)
    cursor.expect_space()
    words = expect_astring(cursor, "an initial response")
    return command.Authenticate(tag, mechanism, b"" if words == b"=" else decode_base64(words))


# login = "LOGIN" SP userid SP password
def _login(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    user = expect_astring(cursor, "a user name")
    cursor.expect_space()
    return command.Login(tag, user, expect_astring(cursor, "a password"))


# id          = "ID" SP id-params-list
# id-params-list = "(" *(string SP nstring) ")" / nil
def _id(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    if not cursor.is_next(b"("):
        if expect_nstring(cursor) is not None:
            cursor.fail("an ID parameter list")
        return command.Id(tag, None)
    pairs = expect_list(cursor, _id_pair, may_be_empty=True)
    if len(pairs) > _ID_PAIRS:
        cursor.refuse("too many ID parameters")
    return command.Id(tag, dict(pairs))


def _id_pair(cursor: Cursor) -> tuple[bytes, bytes | None]:
    """One pair. Commas behind strings and values without quotes are taken: clients of the field send them (Apache James
    has both in its test scripts), and what ID says is never acted upon (RFC 2971 §3)."""
    name = expect_string(cursor, "an ID parameter name").lower()
    if not cursor.is_strict:
        cursor.take(b",")
    cursor.expect_space()
    value = expect_nstring(cursor) if cursor.is_strict else _lenient_nstring(cursor)
    if len(name) > _ID_NAME_OCTETS or len(value or b"") > _ID_VALUE_OCTETS:
        cursor.refuse("ID parameter too long")
    return name, value


def _lenient_nstring(cursor: Cursor) -> bytes | None:
    is_atom = not cursor.is_next(b'"') and cursor.position not in cursor.literals
    value = expect_astring(cursor)
    cursor.take(b",")
    return None if is_atom and value.upper() == b"NIL" else value


# enable = "ENABLE" 1*(SP capability)
def _enable(cursor: Cursor, tag: bytes) -> Command:
    capabilities: list[bytes] = []
    while not capabilities or not cursor.is_at_end():
        cursor.expect_space()
        cursor.count_item()
        capabilities.append(expect_atom(cursor, "a capability").upper())
    return command.Enable(tag, tuple(dict.fromkeys(capabilities)))


# select        = "SELECT" SP mailbox [select-params]
def _mailbox_and_parameters(cursor: Cursor) -> tuple[str, bool, Resync | None]:
    cursor.expect_space()
    mailbox = expect_mailbox(cursor)
    if cursor.is_at_end():
        return mailbox, False, None
    cursor.expect_space()
    return mailbox, *expect_select_parameters(cursor)


def _select(cursor: Cursor, tag: bytes) -> Command:
    return command.Select(tag, *_mailbox_and_parameters(cursor))


# examine = "EXAMINE" SP mailbox [select-params]
def _examine(cursor: Cursor, tag: bytes) -> Command:
    return command.Examine(tag, *_mailbox_and_parameters(cursor))


# delete = "DELETE" SP mailbox, and alike SUBSCRIBE, UNSUBSCRIBE
def _with_mailbox(make: Callable[[bytes, str], Command]) -> Production:
    def production(cursor: Cursor, tag: bytes) -> Command:
        cursor.expect_space()
        return make(tag, expect_mailbox(cursor))

    return production


# rename = "RENAME" SP mailbox SP mailbox
def _rename(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    old = expect_mailbox(cursor)
    cursor.expect_space()
    return command.Rename(tag, old, expect_mailbox(cursor))


def _with_messages(cursor: Cursor, tag: bytes) -> Command:
    """APPEND or REPLACE without the space that the reader knows them by: append.py has their grammar."""
    return cursor.fail("a space")


# fetch          = "FETCH" SP sequence-set SP (…) [SP "(" fetch-modifier *(SP fetch-modifier) ")"]
def _fetch(cursor: Cursor, tag: bytes, *, is_uid: bool = False) -> Command:
    cursor.expect_space()
    sequence = sequence_set(cursor)
    cursor.expect_space()
    attributes = expect_fetch_attributes(cursor)
    modifiers = NO_MODIFIERS
    if not cursor.is_at_end():
        cursor.expect_space()
        modifiers = expect_fetch_modifiers(cursor)
    return command.Fetch(tag, sequence, attributes, is_uid, modifiers)


# store           = "STORE" SP sequence-set [SP "(" store-modifier ")"] SP store-att-flags
# store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
def _store(cursor: Cursor, tag: bytes, *, is_uid: bool = False) -> Command:
    cursor.expect_space()
    sequence = sequence_set(cursor)
    cursor.expect_space()
    unchanged_since = None
    if cursor.is_next(b"("):
        unchanged_since = expect_unchanged_since(cursor)
        cursor.expect_space()
    operation: Literal["replace", "add", "remove"] = "replace"
    if cursor.take(b"+"):
        operation = "add"
    elif cursor.take(b"-"):
        operation = "remove"
    word = cursor.take_word()
    if word not in (b"FLAGS", b"FLAGS.SILENT"):
        cursor.fail("FLAGS or FLAGS.SILENT")
    cursor.expect_space()
    flags = expect_flags_to_store(cursor)
    return command.Store(tag, sequence, operation, flags, word == b"FLAGS.SILENT", is_uid, unchanged_since)


# copy = "COPY" SP sequence-set SP mailbox
def _copy(cursor: Cursor, tag: bytes, *, is_uid: bool = False) -> Command:
    cursor.expect_space()
    sequence = sequence_set(cursor)
    cursor.expect_space()
    return command.Copy(tag, sequence, expect_mailbox(cursor), is_uid)


# move = "MOVE" SP sequence-set SP mailbox        (RFC 6851 §4.1)
def _move(cursor: Cursor, tag: bytes, *, is_uid: bool = False) -> Command:
    cursor.expect_space()
    sequence = sequence_set(cursor)
    cursor.expect_space()
    return command.Move(tag, sequence, expect_mailbox(cursor), is_uid)


# uid-expunge = "UID" SP "EXPUNGE" SP sequence-set        (RFC 4315 §4)
def _uid_expunge(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    return command.Expunge(tag, sequence_set(cursor))


# uidbatches = "UIDBATCHES" SP nz-number [SP nz-number ":" nz-number]        (draft-ietf-mailmaint-imap-uidbatches)
def _uidbatches(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    size = expect_number(cursor, "a number of messages", least=1)
    if cursor.is_at_end():
        return command.UidBatches(tag, size)
    cursor.expect_space()
    first = expect_number(cursor, "a range of batches", least=1)
    cursor.expect(b":")
    return command.UidBatches(tag, size, (first, expect_number(cursor, "a range of batches", least=1)))


# uid = "UID" SP (copy / fetch / search / store / …)
def _uid(cursor: Cursor, tag: bytes) -> Command:
    cursor.expect_space()
    production = _UID_PRODUCTIONS.get(cursor.take_word() or b"")
    if production is None:
        cursor.refuse("unknown command")
    return production(cursor, tag)


def _alone(make: Callable[[bytes], Command]) -> Production:
    return lambda cursor, tag: make(tag)


_PRODUCTIONS: Mapping[bytes, Production] = {
    b"CAPABILITY": _alone(command.Capability),
    b"NOOP": _alone(command.Noop),
    b"LOGOUT": _alone(command.Logout),
    b"ID": _id,
    b"STARTTLS": _alone(command.StartTls),
    b"AUTHENTICATE": _authenticate,
    b"LOGIN": _login,
    b"ENABLE": _enable,
    b"NAMESPACE": _alone(command.Namespace),
    b"SELECT": _select,
    b"EXAMINE": _examine,
    b"CREATE": expect_create,
    b"DELETE": _with_mailbox(command.Delete),
    b"RENAME": _rename,
    b"SUBSCRIBE": _with_mailbox(command.Subscribe),
    b"UNSUBSCRIBE": _with_mailbox(command.Unsubscribe),
    b"LIST": expect_list_command,
    b"LSUB": expect_lsub,
    b"STATUS": expect_status,
    b"SETACL": expect_setacl,
    b"DELETEACL": expect_deleteacl,
    b"GETACL": expect_getacl,
    b"LISTRIGHTS": expect_listrights,
    b"MYRIGHTS": expect_myrights,
    b"APPEND": _with_messages,
    b"REPLACE": _with_messages,
    b"IDLE": _alone(command.Idle),
    b"GETMETADATA": expect_getmetadata,
    b"SETMETADATA": expect_setmetadata,
    b"GETQUOTA": expect_getquota,
    b"GETQUOTAROOT": expect_getquotaroot,
    b"SETQUOTA": expect_setquota,
    b"NOTIFY": expect_notify,
    b"CHECK": _alone(command.Check),
    b"CLOSE": _alone(command.Close),
    b"UNSELECT": _alone(command.Unselect),
    b"UNAUTHENTICATE": _alone(command.Unauthenticate),
    b"EXPUNGE": _alone(command.Expunge),
    b"SEARCH": lambda cursor, tag: expect_search(cursor, tag, is_uid=False),
    b"SORT": lambda cursor, tag: expect_sort(cursor, tag, is_uid=False),
    b"THREAD": lambda cursor, tag: expect_thread(cursor, tag, is_uid=False),
    b"ESEARCH": expect_multi_search,
    b"CANCELUPDATE": expect_cancel_update,
    b"FETCH": _fetch,
    b"STORE": _store,
    b"COPY": _copy,
    b"MOVE": _move,
    b"UID": _uid,
    b"UIDBATCHES": _uidbatches,
    b"COMPRESS": expect_compress,
}

_UID_PRODUCTIONS: Mapping[bytes, Production] = {
    b"FETCH": lambda cursor, tag: _fetch(cursor, tag, is_uid=True),
    b"STORE": lambda cursor, tag: _store(cursor, tag, is_uid=True),
    b"SEARCH": lambda cursor, tag: expect_search(cursor, tag, is_uid=True),
    b"SORT": lambda cursor, tag: expect_sort(cursor, tag, is_uid=True),
    b"THREAD": lambda cursor, tag: expect_thread(cursor, tag, is_uid=True),
    b"COPY": lambda cursor, tag: _copy(cursor, tag, is_uid=True),
    b"MOVE": lambda cursor, tag: _move(cursor, tag, is_uid=True),
    b"EXPUNGE": _uid_expunge,
    b"REPLACE": _with_messages,
}

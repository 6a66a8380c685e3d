"""The section [imap]: limits of an IMAP session, each with its documented reply."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import KIB, MIB, MINUTE, Octets, Seconds


class Imap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """IMAP4rev1 sessions on the listeners imap (STARTTLS) and imaps (TLS from the start)."""

    cleartext_authentication: Annotated[
        bool,
        Meta(
            description="Allow LOGIN and AUTHENTICATE PLAIN without TLS. Otherwise the reply is NO [PRIVACYREQUIRED]."
        ),
    ] = False
    login_timeout: Annotated[
        Seconds,
        Meta(description="How long a connection may stay without logging in. Reply: * BYE, then close."),
    ] = Seconds(1 * MINUTE)
    idle_timeout: Annotated[
        Seconds,
        Meta(
            description="Autologout of a logged-in session without a command, also in IDLE; RFC 3501 §5.4 asks for at least "
            "30 minutes. Reply: * BYE, then close."
        ),
    ] = Seconds(30 * MINUTE)
    send_timeout: Annotated[
        Seconds, Meta(description="Time a client may take to read nothing of a response, then the connection is cut.")
    ] = Seconds(2 * MINUTE)
    poll_interval: Annotated[
        Seconds,
        Meta(description="How long a mailbox is believed unchanged without a notification from the database."),
    ] = Seconds(30)
    error_limit: Annotated[int, Meta(ge=1, description="BAD replies in one session; one more ends it with * BYE.")] = 50
    login_failure_limit: Annotated[
        int, Meta(ge=1, description="Failed logins per connection; the last one's NO is followed by * BYE.")
    ] = 3
    connections_per_account: Annotated[
        int,
        Meta(
            ge=1,
            description="Sessions of one account per process. Reply to login: NO [LIMIT]. Not for trusted networks.",
        ),
    ] = 100
    connections_per_network: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections of one IPv4 address or one IPv6 /64 per process. Greeting: * BYE. Not for trusted networks.",
        ),
    ] = 200
    connection_limit: Annotated[
        int, Meta(ge=1, description="Connections per process in all. Greeting: * BYE, trusted or not.")
    ] = 20_000
    append_limit: Annotated[
        Octets,
        Meta(
            description="Largest message APPEND takes. Reply: NO [TOOBIG], sent before the message where the client waits."
        ),
    ] = Octets(64 * MIB)
    append_messages: Annotated[
        int,
        Meta(ge=1, description="Messages one APPEND may bring (MULTIAPPEND). Reply: NO [LIMIT], and none is stored."),
    ] = 1000
    append_total: Annotated[
        Octets,
        Meta(description="All messages of one APPEND together. Reply: NO [TOOBIG], and none is stored."),
    ] = Octets(256 * MIB)
    literal_limit: Annotated[
        Octets,
        Meta(description="Largest literal in any other command. Reply: BAD."),
    ] = Octets(64 * KIB)
    command_limit: Annotated[
        Octets, Meta(description="All lines and literals of one command, an APPEND's message not counted. Reply: BAD.")
    ] = Octets(256 * KIB)
    line_limit: Annotated[
        Octets,
        Meta(
            description="Longest command line without its literals (RFC 7162 §4 asks for 8,192 octets). Reply: BAD [TOOBIG]."
        ),
    ] = Octets(64 * KIB)
    pipeline_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Commands of a session that are read ahead of the one being answered. Reply: none, the rest waits unread.",
        ),
    ] = 1000
    command_rate: Annotated[
        int,
        Meta(
            ge=1,
            description="Commands per second of a session in the long run. Reply: none, the next one waits for its turn. "
            "Not for trusted networks.",
        ),
    ] = 500
    command_burst: Annotated[
        int, Meta(ge=1, description="Commands of a session that need not keep to command_rate.")
    ] = 10_000
    message_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages one FETCH, STORE, SEARCH, COPY, MOVE, APPEND or UID EXPUNGE may take, told as MESSAGELIMIT; "
            "RFC 9738 asks for 1,000 at least. Reply: OK [MESSAGELIMIT], the newest ones are done; COPY, APPEND, SORT and THREAD: "
            "NO [MESSAGELIMIT]. 0: no such limit.",
        ),
    ] = 1_000_000
    save_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Messages one COPY or APPEND may take where message_limit is 0, told as SAVELIMIT. "
            "Reply: NO [MESSAGELIMIT].",
        ),
    ] = 1_000_000
    progress_interval: Annotated[
        Seconds,
        Meta(description="How often a command that takes long says so: * OK [INPROGRESS] (RFC 9585)."),
    ] = Seconds(10)
    keyword_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Different keywords in one mailbox. Reply to the STORE or APPEND that exceeds it: NO [LIMIT].",
        ),
    ] = 200
    mailbox_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Mailboxes that one account may have, and names that it may be subscribed to. "
            "Reply to CREATE, RENAME and SUBSCRIBE: NO [LIMIT].",
        ),
    ] = 10_000
    contact: Annotated[
        str | None,
        Meta(
            description="URI of whom to ask about this server, shown as METADATA /shared/admin (RFC 5464 §6.2.2). Default: none.",
            examples=["mailto:postmaster@example.com"],
        ),
    ] = None
    metadata_value_limit: Annotated[
        Octets,
        Meta(
            description="Longest value of an annotation; RFC 5464 §4.1 asks for 1,024 octets. Reply: NO [METADATA MAXSIZE n]."
        ),
    ] = Octets(32 * KIB)
    metadata_entries: Annotated[
        int,
        Meta(
            ge=10,
            description="Annotations of one mailbox, or of the server; private and shared ones are counted apart. RFC 5464 §4.1 "
            "asks for 10. Reply: NO [METADATA TOOMANY].",
        ),
    ] = 100
    metadata_octets: Annotated[
        Octets,
        Meta(description="Values of all annotations that one account has written. Reply: NO [METADATA TOOMANY]."),
    ] = Octets(4 * MIB)
    notify_groups: Annotated[
        int,
        Meta(ge=1, description="Event groups of one NOTIFY (RFC 5465). Reply: NO [NOTIFICATIONOVERFLOW]."),
    ] = 100
    notify_mailboxes: Annotated[
        int,
        Meta(
            ge=1,
            description="Mailboxes one session may watch with NOTIFY. Reply: NO [NOTIFICATIONOVERFLOW], or untagged OK with that "
            "code when they become more later.",
        ),
    ] = 2000
    response_batch: Annotated[
        Octets,
        Meta(
            description="Response octets prepared before the session waits for the client to read: what one that does not "
            "read costs in memory, besides one message's part."
        ),
    ] = Octets(256 * KIB)
    search_slice: Annotated[
        Seconds,
        Meta(description="How long a search works on before it lets the process's other sessions have their turn."),
    ] = Seconds(0.02)
    inflate_limit: Annotated[
        Octets,
        Meta(
            description="Octets that one received block of 64 KiB may become where COMPRESS is on (RFC 4978). They are inflated "
            "in pieces of 64 KiB, and count for all other limits. More ends the session with BYE."
        ),
    ] = Octets(40 * MIB)
    search_batch: Annotated[
        Octets, Meta(description="Octets of messages held in memory at once while their text is searched.")
    ] = Octets(8 * MIB)
    search_keys: Annotated[
        int,
        Meta(
            ge=1,
            description="Keys of one search that need more than the mailbox in memory: texts, header fields, days of Date and of "
            "saving. Reply: NO [LIMIT].",
        ),
    ] = 100
    search_contexts: Annotated[
        int,
        Meta(
            ge=0,
            description="Searches one session may have kept up to date at a time (RFC 5267). Reply to one more: NO [NOUPDATE], "
            "untagged; the result itself is told.",
        ),
    ] = 16
    sort_cache_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages whose sort keys and references are kept in memory, of the mailboxes sorted or threaded "
            "lately; about 700 octets each.",
        ),
    ] = 200_000
    search_cache: Annotated[
        Octets,
        Meta(
            description="Texts of mailboxes that are kept in memory because they were searched before, in each process. "
            "What does not fit is looked for in the database."
        ),
    ] = Octets(128 * MIB)
    view_cache_messages: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages in all mailbox views that are kept in memory while no session has them selected; 40 octets each.",
        ),
    ] = 1_000_000

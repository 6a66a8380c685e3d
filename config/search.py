"""The section [search]: how the index that SEARCH uses is filled, and what one message may cost."""

from typing import Annotated

import msgspec
from msgspec import Meta

from config.units import KIB, MIB, MINUTE, Octets, Seconds


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The search index. What it does not hold yet is found all the same, only more slowly."""

    batch_limit: Annotated[
        int, Meta(ge=1, le=1000, description="Most messages that one process takes for indexing at once.")
    ] = 100
    batch_octets: Annotated[
        Octets, Meta(description="Text that is gathered in memory before it is written, and the most of one statement.")
    ] = Octets(4 * MIB)
    gather: Annotated[
        Seconds,
        Meta(description="How long no message must have come in before indexing begins: intake has the machine first."),
    ] = Seconds(1)
    delay: Annotated[
        Seconds,
        Meta(description="How long indexing waits at most while messages keep coming in."),
    ] = Seconds(20)
    poll: Annotated[
        Seconds,
        Meta(description="How often the index looks for new messages by itself. A lost wake-up costs this much."),
    ] = Seconds(15)
    lease: Annotated[
        Seconds,
        Meta(description="How long a process has for what it took; then another one may try. A crash costs this much."),
    ] = Seconds(10 * MINUTE)
    attempts: Annotated[
        int,
        Meta(ge=1, description="Times a message is tried that crashes the indexer. Then every search reads it anew."),
    ] = 3
    text_limit: Annotated[
        Octets, Meta(description="Text of one message that is indexed. Every search reads a message with more anew.")
    ] = Octets(8 * MIB)
    message_time: Annotated[
        Seconds,
        Meta(description="Longest that one message may take, its attachments included; then these are left out."),
    ] = Seconds(30)
    memory: Annotated[Octets, Meta(description="Address space of the process that reads messages for the index.")] = (
        Octets(1024 * MIB)
    )
    document_limit: Annotated[
        Octets, Meta(description="Largest attachment whose text is read for SEARCH FUZZY, as it is encoded.")
    ] = Octets(32 * MIB)
    document_time: Annotated[
        Seconds, Meta(description="Longest that the text of one attachment may take; what was read until then counts.")
    ] = Seconds(5)
    document_text: Annotated[
        Octets, Meta(description="Text of all attachments of one message that is read for SEARCH FUZZY.")
    ] = Octets(512 * KIB)

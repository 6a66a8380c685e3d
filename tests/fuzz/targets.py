"""What is fuzzed: functions that take any octets and raise only when a promise of the code is broken.

Each one calls its part of the code as the daemons do, lets pass the exceptions that are documented there, and holds what
must be true of every input. tests/fuzz/__main__.py runs them coverage-guided (make fuzz), test_targets.py with the seeds
and with every input that has broken one of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fuzz import filtering, grammar, messages, reporting, scripts, seeds, sending, sessions, transport

MAX_OCTETS = 4096  # of one input


@dataclass(frozen=True, slots=True)
class Target:
    """One function and what it begins with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


TARGETS: dict[str, Target] = {
    "imap-reader": Target(grammar.reader, seeds.imap_streams),
    "imap-access": Target(grammar.access, seeds.arguments_of(grammar.ACCESS)),
    "imap-mailboxes": Target(grammar.mailboxes, seeds.arguments_of(grammar.MAILBOXES)),
    "imap-messages": Target(grammar.messages, seeds.arguments_of(grammar.MESSAGES)),
    "imap-search": Target(grammar.search, seeds.arguments_of(grammar.SEARCH)),
    "imap-notify": Target(grammar.notify, seeds.arguments_of(grammar.NOTIFY)),
    "imap-sharing": Target(grammar.sharing, seeds.arguments_of(grammar.SHARING)),
    "imap-url": Target(grammar.url, seeds.urls),
    "imap-names": Target(grammar.names, seeds.names),
    "pop3-session": Target(sessions.pop3, seeds.pop3_streams),
    "pop3-message": Target(sessions.pop3_message, seeds.mails),
    "managesieve-session": Target(scripts.managesieve, scripts.streams),
    "sieve": Target(filtering.sieve, filtering.sieve_scripts),
    "authentication": Target(filtering.authentication, filtering.signed_mails),
    "results": Target(filtering.results, filtering.result_fields),
    "senders": Target(filtering.senders, filtering.patterns),
    "rules": Target(filtering.rules, filtering.conditions),
    "content": Target(filtering.content, seeds.mails),
    "archives": Target(filtering.archive, filtering.archives),
    "spam": Target(filtering.spam, seeds.mails),
    "sasl": Target(sessions.sasl, seeds.sasl_exchanges),
    "inflate": Target(sessions.inflate, seeds.deflated),
    "message": Target(messages.message, seeds.mails),
    "message-text": Target(messages.text, seeds.mails),
    "header": Target(messages.header, seeds.headers),
    "threads": Target(messages.threads, seeds.threads),
    "documents": Target(messages.documents, seeds.documents),
    "bounces": Target(reporting.bounce, seeds.bounces),
    "reports": Target(reporting.report, seeds.reports),
    "smtp-client": Target(sending.client, seeds.smtp_replies),
    "transport": Target(transport.published, seeds.transport_policies),
    "certificates": Target(transport.certificates, seeds.tlsa_records),
}

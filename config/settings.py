"""The whole configuration as one frozen value, and the paths that follow from its state directory."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from config.antivirus import Antivirus
from config.archive import Archive
from config.authentication import Authentication
from config.authenticity import Authenticity
from config.database import Database
from config.dkim import Dkim
from config.dnslists import DnsLists
from config.envelope import Envelope, Greylisting, PolicyService, Rates
from config.filtering import Filtering
from config.imap import Imap
from config.keeper import Keeper
from config.listen import Listen
from config.logs import Logs
from config.managesieve import Managesieve
from config.mime import Mime
from config.notifier import Notifier
from config.pop3 import Pop3
from config.quarantine import Quarantine
from config.relay import Relay
from config.reports import Reports
from config.rules import Rules
from config.search import Search
from config.sending import Sending
from config.sieve import Sieve
from config.smtp import Smtp
from config.spam import Spam
from config.srs import Srs
from config.submission import Submission
from config.tls import Tls
from config.traces import Trace
from config.transport import Transport


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Postwerk's configuration. Every key has a default; an unknown key is an error."""

    hostname: Annotated[
        str,
        Meta(description="This host's full name, as in greetings and Received fields.", examples=["mail.example.org"]),
    ] = "localhost"
    state: Annotated[
        str,
        Meta(
            description="Directory of everything that must survive: segments, keys, spool.",
            examples=["/var/lib/postwerk"],
        ),
    ] = "/var/lib/postwerk"
    trusted_networks: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) without rate and connection limits and without login delays. Default: none.",
            examples=[["192.0.2.0/24", "2001:db8::/32"]],
        ),
    ] = []
    database: Database = Database()
    tls: Tls = Tls()
    listen: Listen = Listen()
    smtp: Smtp = Smtp()
    envelope: Envelope = Envelope()
    rates: Rates = Rates()
    dnslists: DnsLists = DnsLists()
    greylisting: Greylisting = Greylisting()
    policy_service: PolicyService = PolicyService()
    submission: Submission = Submission()
    relay: Relay = Relay()
    transport: Transport = Transport()
    filtering: Filtering = Filtering()
    authenticity: Authenticity = Authenticity()
    antivirus: Antivirus = Antivirus()
    mime: Mime = Mime()
    spam: Spam = Spam()
    quarantine: Quarantine = Quarantine()
    notifier: Notifier = Notifier()
    imap: Imap = Imap()
    pop3: Pop3 = Pop3()
    managesieve: Managesieve = Managesieve()
    sieve: Sieve = Sieve()
    rules: Rules = Rules()
    authentication: Authentication = Authentication()
    archive: Archive = Archive()
    search: Search = Search()
    sending: Sending = Sending()
    trace: Trace = Trace()
    dkim: Dkim = Dkim()
    srs: Srs = Srs()
    reports: Reports = Reports()
    keeper: Keeper = Keeper()
    logs: Logs = Logs()

    def __post_init__(self) -> None:
        """Check the networks. Raises ValueError, which names the key."""
        for network in self.trusted_networks:
            try:
                ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"trusted_networks: {error}") from None

    @property
    def segments_directory(self) -> Path:
        """Where the blob store's segments lie."""
        return Path(self.state) / "segments"

    @property
    def spool_directory(self) -> Path:
        """Where large messages wait while they come in; nothing in it survives a restart."""
        return Path(self.state) / "spool"

    @property
    def master_key_file(self) -> Path:
        """The key that wraps the tenants' keys; 32 octets, never in the database."""
        return Path(self.state) / "keys" / "master.key"

    @property
    def archive_key_file(self) -> Path:
        """The key that signs the evidence log's checkpoints."""
        return Path(self.state) / "keys" / "archive.key"

    @property
    def run_directory(self) -> Path:
        """What belongs to one run: endpoints, the effective configuration, metrics."""
        return Path(self.state) / "run"

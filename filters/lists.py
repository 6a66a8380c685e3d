"""The content filter `lists`: senders that accounts and tenants always want to hear of, or never.

Who is blocked is refused for those who block him. Who is allowed is a finding for other filters: the spam score does not count for
him, what a virus scanner says does. An author or sender is allowed by name only when the name is proven: by a login, by DKIM, SPF
or DMARC; anybody could write it otherwise. A network is proven by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from filters.authentication.results import Results
from filters.ports import OnFailure, SenderLists
from filters.sender_lists import Identity, Match, Standing, spelled
from filters.subject import Envelope, Subject
from filters.verdict import Finding, Refuse, Verdict
from protocol.address import AddrSpec
from protocol.domain import a_labels
from protocol.message import address_list, header
from protocol.smtp.reply import reply

BLOCKED = reply(550, "5.7.1", "the recipient does not accept mail from this sender")
_FIELD_OCTETS = 8192  # of From that are read
_AUTHORS = 50  # that are looked up; who writes more is not named by a list


@dataclass(frozen=True, slots=True)
class Listings:
    """What the lists say of one message's sender, recipient by recipient."""

    matches: Mapping[int, Match] = field(default_factory=dict)  # by account_id

    def of(self, account_id: int) -> Standing | None:
        """What the account, or else its tenant, has listed him as."""
        match = self.matches.get(account_id)
        return None if match is None else match.standing

    def reason_of(self, account_id: int) -> str:
        """For people; "" when he is not listed."""
        match = self.matches.get(account_id)
        return "" if match is None else match.reason


class Lists:
    """The filter. Without entries it costs no look at the message."""

    name = "lists"
    on_failure: OnFailure = "pass"
    needs: Sequence[str] = ("authentication",)
    limit_seconds = 10.0

    def __init__(self, lists: SenderLists) -> None:
        self._lists = lists

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """Refuse for those who block the sender, and note for whom he is allowed."""
        envelope = subject.envelope
        lists = await self._lists.of(envelope.accounts)
        matches: dict[int, Match] = {}
        if any(lists.values()):
            identities = identities_of(subject)
            judged = ((account_id, each.judge(envelope.peer, identities)) for account_id, each in lists.items())
            matches = {account_id: match for account_id, match in judged if match is not None}
        refusals = [
            Refuse(BLOCKED, match.reason, account_id)
            for account_id, match in matches.items()
            if match.standing == "blocked"
        ]
        return [Finding(Listings(matches)), *refusals]


def identities_of(subject: Subject) -> list[Identity]:
    """Everybody whom the message names as its sender: envelope, login, and authors."""
    results = subject.noted(Results) or Results()
    is_own = subject.envelope.is_authenticated  # submission lets nobody write in another's name
    return [
        *envelope_identities(subject.envelope, is_proven=is_own or results.is_sent),
        *(Identity(spelled(each), is_own or results.vouch_for(a_labels(each.domain))) for each in _authors(subject)),
    ]


def envelope_identities(envelope: Envelope, *, is_proven: bool) -> list[Identity]:
    """Those that are known before the message."""
    identities = []
    if envelope.reverse_path is not None:
        identities.append(Identity(spelled(envelope.reverse_path), is_proven))
    if envelope.login:
        local_part, at, domain = envelope.login.rpartition("@")
        identities.append(Identity(f"{local_part}{at}{a_labels(domain)}", is_proven=True))
    return identities


def _authors(subject: Subject) -> list[AddrSpec]:
    fields = [body for name, body, _ in header.read(subject.header) if name == b"FROM"]
    found = [each for body in fields for each in address_list.parse(header.unfold(body[:_FIELD_OCTETS]))]
    named = [AddrSpec(_text(each.mailbox), _text(each.host)) for each in found if each.host and each.mailbox]
    return list(dict.fromkeys(named))[:_AUTHORS]


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "replace")

"""A sender's reputation with one account: what that account answered, kept, or threw into Junk."""

from copy import copy
from dataclasses import replace

from filters.authentication.results import Results
from filters.sender_lists import spelled
from filters.spam.rules import Rule, RuleBook
from filters.spam.sender_rules import STANDING_RULES
from filters.spam.sight import Sight, Standing
from protocol.address import AddrSpec

_BOOK = RuleBook(STANDING_RULES)


def author_of(sight: Sight) -> str:
    """The address in From by which a sender is known; "" without one."""
    _, local_part, domain = sight.sender
    return spelled(AddrSpec(local_part, domain)) if local_part and domain else ""


def believed(standing: Standing, author: str, results: Results | None) -> Standing:
    """What counts of it: unless the author's domain vouches for the message, only the bad. Everybody can write any From."""
    if results is not None and results.vouch_for(author.rpartition("@")[2]):
        return standing
    return Standing(junked=standing.junked) if standing.junked > standing.kept and not standing.answered else Standing()


def ask(sight: Sight, standing: Standing) -> list[Rule]:
    """The rules that hold for who has this standing."""
    if standing == Standing():
        return []
    own = copy(sight)
    own.circumstances = replace(sight.circumstances, standing=standing)
    return _BOOK.ask(own)

"""What scripts call lists of addresses, RFC 6134 §2.2: `:addrbook:NAME` is one's own, `:tenant:NAME` everybody's."""

from daemons.scripting.owners import AccountOwner
from storage.address_lists import Holder

_OWN, _TENANTS = ":addrbook:", ":tenant:"


def holder_of(owner: AccountOwner, name: str) -> tuple[Holder, str] | None:
    """Whose list the owner's scripts mean, and its name there; any other name is that of an own list, such as a `tag:` URI."""
    if name.startswith(_TENANTS):
        return (Holder(owner.tenant_id), rest) if (rest := name.removeprefix(_TENANTS)) else None
    if name.startswith(":") and not name.startswith(_OWN):
        return None
    rest = name.removeprefix(_OWN)
    return (Holder(owner.tenant_id, owner.account_id), rest) if rest else None

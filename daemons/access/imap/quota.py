"""QUOTA, RFC 9208: what an account and its tenant's pool may hold.

A mailbox has up to two quota roots: `account/LOGIN` of its owner, whoever looks, told where that has a limit, and `pool/TENANT`
where the tenant's accounts share one. STORAGE is the sum of the messages' sizes, MESSAGE their number; the pool knows STORAGE only.

SETQUOTA (QUOTASET) is for accounts that the operator made administrators of their tenant, and for roots of accounts of that tenant:
the pool is what the tenant was sold, so nobody sets it from inside. Storage asks for room in storage/quota.py.
"""

from daemons.access.imap.rights import demand, look_up, visible
from daemons.access.imap.session import Completion, RefusalError, Session, log
from protocol.imap import quota as protocol
from protocol.imap import response
from protocol.imap.quota import STORAGE_OCTETS, Resource
from storage import quota, sharing
from storage.errors import OverQuotaError, StorageError
from storage.quota import AccountUsage, PoolUsage

_ACCOUNT, _POOL = "account/", "pool/"
_STORAGE, _MESSAGE = b"STORAGE", b"MESSAGE"
_MOST_STORAGE = (2**63 - 1) // STORAGE_OCTETS


def _account_line(used: AccountUsage) -> bytes:
    resources: list[Resource] = []
    if used.quota_octets is not None:
        resources.append((_STORAGE, -(-used.used_octets // STORAGE_OCTETS), used.quota_octets // STORAGE_OCTETS))
    if used.quota_messages is not None:
        resources.append((_MESSAGE, used.used_messages, used.quota_messages))
    return protocol.quota_line(_account_root(used), resources)


def _pool_line(used: PoolUsage) -> bytes:
    storage = (_STORAGE, -(-used.used_octets // STORAGE_OCTETS), used.quota_octets // STORAGE_OCTETS)
    return protocol.quota_line(_pool_root(used), [storage])


def _account_root(used: AccountUsage) -> bytes:
    return f"{_ACCOUNT}{used.login}".encode()


def _pool_root(used: PoolUsage) -> bytes:
    return f"{_POOL}{used.tenant}".encode()


async def warn_if_full(session: Session, account_id: int) -> None:
    """Untagged NO [OVERQUOTA] when the selected mailbox's account takes no more messages (RFC 9208 §4.3.1)."""
    try:
        await session.shared.rooms.check(account_id, 1)
    except OverQuotaError:
        session.put(response.untagged("NO", b"OVERQUOTA", "no room left, new messages are refused"))
    except StorageError as error:
        log.warning("room not known", reason=str(error))


async def get_quota_root(session: Session, asked: protocol.GetQuotaRoot) -> Completion:
    """GETQUOTAROOT, RFC 9208 §4.1.2; for a name that no mailbox has, what would apply if it were created."""
    found = await look_up(session, asked.mailbox)
    if found is not None:
        demand(found.rights, "lr")
    elif sharing.is_others(asked.mailbox):
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    owner_id = session.account.account_id if found is None else found.mailbox.account_id
    async with session.database() as connection:
        used = await quota.usage(connection, owner_id)
        pool = await quota.pool_usage(connection, session.account.tenant_id)
    if used is None:  # deleted a moment ago
        raise RefusalError.no(b"NONEXISTENT", "no such mailbox")
    told = {_account_root(used): _account_line(used)}
    if pool is not None:
        told[_pool_root(pool)] = _pool_line(pool)
    roots = [root for root, line in told.items() if line]  # "for each listed quota root" there is a QUOTA response
    session.put(protocol.quotaroot_line(session.mailbox_name(asked.mailbox), roots) + b"".join(told.values()))
    return Completion("done")


async def get_quota(session: Session, asked: protocol.GetQuota) -> Completion:
    """GETQUOTA, RFC 9208 §4.1.1, of roots that govern a mailbox that the session may read, and an administrator's of all."""
    used = await _usage(session, asked.root)
    if isinstance(used, PoolUsage):
        session.put(_pool_line(used))
        return Completion("done")
    if used.account_id != session.account.account_id and not await _is_administrator(session):
        owners = {each.mailbox.account_id for each in await visible(session) if each.rights.issuperset("lr")}
        if used.account_id not in owners:
            raise _unknown_root()
    session.put(_account_line(used))
    return Completion("done")


async def set_quota(session: Session, asked: protocol.SetQuota) -> Completion:
    """SETQUOTA, RFC 9208 §4.1.3: all limits of an account's root are replaced."""
    if not await _is_administrator(session):
        raise RefusalError.no(b"NOPERM", "only an administrator sets limits")
    used = await _usage(session, asked.root)
    if isinstance(used, PoolUsage):
        raise RefusalError.no(b"NOPERM", "the pool's limit is not yours to set")
    limits = dict(asked.limits)
    if not {_STORAGE, _MESSAGE}.issuperset(limits):
        raise RefusalError.no(b"CANNOT", "only STORAGE and MESSAGE can be limited")
    storage = limits.get(_STORAGE)
    if storage is not None and storage > _MOST_STORAGE:
        raise RefusalError.no(b"CANNOT", "the limit is too large")
    octets = None if storage is None else storage * STORAGE_OCTETS
    async with session.database() as connection:
        await quota.set_limits(connection, used.account_id, octets, limits.get(_MESSAGE))
        changed = await quota.usage(connection, used.account_id)
    if changed is not None:
        session.put(_account_line(changed))
    return Completion("limits are set")


async def _usage(session: Session, root: bytes) -> AccountUsage | PoolUsage:
    """What counts against a root of the session's tenant. NO when there is no such root."""
    try:
        name = root.decode()
    except UnicodeDecodeError:
        raise _unknown_root() from None
    used: AccountUsage | PoolUsage | None = None
    async with session.database() as connection:
        if name.startswith(_ACCOUNT):
            login = name.removeprefix(_ACCOUNT)
            used = await quota.usage_of_login(connection, session.account.tenant_id, login)
        else:
            used = await quota.pool_usage(connection, session.account.tenant_id)
            if used is not None and name != f"{_POOL}{used.tenant}":
                used = None
    if used is None:
        raise _unknown_root()
    return used


def _unknown_root() -> RefusalError:
    return RefusalError.no(b"NONEXISTENT", "no such quota root")


async def _is_administrator(session: Session) -> bool:
    async with session.database() as connection:
        return await quota.is_administrator(connection, session.account.account_id)

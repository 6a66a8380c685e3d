"""What logins are proven with, app passwords, and the record of attacks: looked up at logins, changed by the command line."""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network

import asyncpg

from storage.errors import ExistsError, NotFoundError
from storage.pool import Connection, Pool, reported
from storage.rows import AppPassword, AppPasswordRow, Attack, AttackRow, Login

# One row with all that a login may be proven with.
LOGIN = """
SELECT a.account_id, a.tenant_id, a.login, a.password_hash, a.is_disabled, a.scram_sha_256, t.name,
       ARRAY(SELECT (p.app_password_id, p.digest, p.scram_keys, p.scopes, p.networks::text[], p.expires_at)
               FROM app_password AS p WHERE p.account_id = a.account_id ORDER BY p.app_password_id)
  FROM account AS a JOIN tenant AS t USING (tenant_id) WHERE a.login = $1 AND a.kind = 'person'
"""


def login_of(row: asyncpg.Record) -> Login:
    """A row of LOGIN."""
    app_passwords = tuple(
        AppPassword(identity, digest, keys, frozenset(scopes), tuple(map(ip_network, networks)), expires_at)
        for identity, digest, keys, scopes, networks, expires_at in row[7]
    )
    return Login(row[0], row[1], row[2], row[3], row[4], row[5], row[6], app_passwords)


class Credentials:
    """What the daemons ask and write at logins. Raises UnavailableError everywhere."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def salt_secret(self) -> bytes:
        """What SCRAM salts are derived from. It never changes."""
        async with reported():
            return await salt_secret(self._pool)

    async def tenant_of(self, domain: str) -> str | None:
        """The name of the tenant that has the domain."""
        async with reported():
            found: str | None = await self._pool.fetchval(
                "SELECT t.name FROM domain AS d JOIN tenant AS t USING (tenant_id) WHERE d.name = $1", domain
            )
        return found

    async def keep_verifiers(self, accounts: Sequence[int], hashes: Sequence[str], verifiers: Sequence[str]) -> None:
        """Give accounts the SCRAM verifiers of the passwords with these hashes, unless they have changed since."""
        async with reported():
            await self._pool.execute(
                "UPDATE account AS a SET scram_sha_256 = n.scram "
                "FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (id, hash, scram) "
                "WHERE a.account_id = n.id AND a.password_hash = n.hash",
                accounts, hashes, verifiers,
            )  # fmt: skip

    async def touch(self, accounts: Sequence[int], app_passwords: Sequence[int]) -> None:
        """Note that they logged in now, accounts to the hour, app passwords to the minute."""
        async with reported():
            await self._pool.execute(
                "UPDATE account SET last_login_at = now() WHERE account_id = ANY ($1) "
                "AND (last_login_at IS NULL OR last_login_at < now() - interval '1 hour')", accounts
            )  # fmt: skip
            await self._pool.execute(
                "UPDATE app_password SET last_used_at = now() WHERE app_password_id = ANY ($1) "
                "AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')", app_passwords
            )  # fmt: skip

    async def record(self, attacks: Sequence[Attack]) -> None:
        """Write down attacks."""
        columns = [
            [getattr(attack, name) for attack in attacks]
            for name in ("happened_at", "tenant_id", "service", "mechanism", "reason", "peer", "login", "client")
        ]
        async with reported():
            await self._pool.execute(
                "INSERT INTO attack_event (happened_at, tenant_id, service, mechanism, reason, peer, login, client) "
                "SELECT n.* FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], "
                "$7::text[], $8::text[]) AS n (happened_at, tenant_id, service, mechanism, reason, peer, login, client)",
                *columns,
            )  # fmt: skip


async def salt_secret(connection: "Connection | Pool") -> bytes:
    """What SCRAM salts are derived from."""
    secret: bytes = await connection.fetchval("SELECT secret FROM salt_secret")
    return secret


async def note_fetch(connection: Connection, account_id: int) -> None:
    """Note that the account fetched its mail (docs/design.md, inactivity), to the hour."""
    await connection.execute(
        "UPDATE account SET last_fetch_at = now() WHERE account_id = $1 "
        "AND (last_fetch_at IS NULL OR last_fetch_at < now() - interval '1 hour')",
        account_id,
    )


async def add_app_password(
    connection: Connection,
    account_id: int,
    label: str,
    digest: bytes,
    scram_keys: bytes,
    *,
    scopes: Sequence[str],
    networks: Sequence[str],
    expires_at: datetime | None,
    limit: int,
) -> int:
    """Returns the app_password_id. Raises ExistsError for a label that is taken, or when the account has `limit`."""
    async with connection.transaction():
        await connection.execute("SELECT FROM account WHERE account_id = $1 FOR UPDATE", account_id)
        count = await connection.fetchval("SELECT count(*) FROM app_password WHERE account_id = $1", account_id)
        if count >= limit:
            raise ExistsError(f"the account has {count} app passwords already")
        try:
            identity: int | None = await connection.fetchval(
                "INSERT INTO app_password (tenant_id, account_id, label, digest, scram_keys, scopes, networks, expires_at) "
                "SELECT tenant_id, account_id, $2, $3, $4, $5, $6::text[]::cidr[], $7 FROM account WHERE account_id = $1 "
                "RETURNING app_password_id",
                account_id, label, digest, scram_keys, list(scopes), list(networks), expires_at,
            )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise ExistsError("the account has an app password of that label") from error
    if identity is None:
        raise NotFoundError("the account does not exist")
    return identity


async def list_app_passwords(connection: Connection, login: str | None = None) -> list[AppPasswordRow]:
    """Those of one account or of all, by login and label."""
    rows = await connection.fetch(
        "SELECT app_password_id, login, label, scopes, networks::text[], expires_at, last_used_at, p.created_at "
        "FROM app_password AS p JOIN account USING (account_id) WHERE $1::text IS NULL OR login = $1 ORDER BY login, label",
        login,
    )
    return [AppPasswordRow(*row) for row in rows]


async def remove_app_password(connection: Connection, login: str, label: str) -> None:
    """Raises NotFoundError."""
    found = await connection.fetchval(
        "DELETE FROM app_password USING account AS a WHERE app_password.account_id = a.account_id AND a.login = $1 "
        "AND label = $2 RETURNING 1",
        login,
        label,
    )
    if found is None:
        raise NotFoundError("the account has no such app password")


async def list_attacks(
    connection: Connection, tenant: str | None, limit: int, *, younger_than_seconds: float
) -> list[AttackRow]:
    """The latest ones, newest first; of one tenant's accounts, or all."""
    rows = await connection.fetch(
        "SELECT happened_at, t.name, service, mechanism, reason, peer, login, client FROM attack_event "
        "LEFT JOIN tenant AS t USING (tenant_id) WHERE ($1::text IS NULL OR t.name = $1) "
        "AND happened_at > now() - make_interval(secs => $3) ORDER BY happened_at DESC, attack_event_id DESC LIMIT $2",
        tenant,
        limit,
        younger_than_seconds,
    )
    return [AttackRow(*row) for row in rows]


async def forget_attacks(connection: Connection, batch_limit: int, *, older_than_seconds: float) -> int:
    """Remove attacks of before that time, at most batch_limit of them; gives how many these were."""
    status: str = await connection.execute(
        "DELETE FROM attack_event WHERE attack_event_id IN (SELECT attack_event_id FROM attack_event "
        "WHERE happened_at < now() - make_interval(secs => $1) ORDER BY happened_at LIMIT $2)",
        older_than_seconds,
        batch_limit,
    )
    return int(status.rpartition(" ")[2])


async def account_of(connection: Connection, login: str) -> int:
    """The account_id. Raises NotFoundError."""
    identity: int | None = await connection.fetchval(
        "SELECT account_id FROM account WHERE login = $1 AND kind = 'person'", login
    )
    if identity is None:
        raise NotFoundError("no such account")
    return identity

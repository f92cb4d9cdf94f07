"""Organizations, users, clients and their tokens, as rows. Every function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.evidence import OrganizationView as OrganizationView
from interface.domain.record import record
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class UserView:
    id: UUID
    username: str
    full_name: str
    roles: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class ClientView:
    id: UUID
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None
    authentication: str = "secret"  # or jwks, jwks_url
    jwks_url: str = ""


@dataclass(frozen=True, slots=True)
class UserSecret:
    """What a login compares with. `locked`: at the time of reading."""

    id: UUID
    username: str
    password_hash: str
    roles: tuple[str, ...]
    disabled: bool
    locked: bool


@dataclass(frozen=True, slots=True)
class ClientSecret:
    id: UUID
    name: str
    secret_hash: bytes | None  # None: it signs, with a key of `jwks` or of what is at `jwks_url`
    jwks: Mapping[str, object]
    jwks_url: str
    scopes: tuple[str, ...]
    disabled: bool


@record
class TokenHolder:
    """Who a valid token belongs to: exactly one of user and client."""

    user_id: UUID | None
    client_id: UUID | None
    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]


async def insert_organization(connection: Connection, organization_id: UUID, name: str, title: str) -> OrganizationView:
    """Raises asyncpg.UniqueViolationError when the name is taken, by whichever organization."""
    row = await connection.fetchrow(
        "insert into lab.organization (id, name, title) values ($1, $2, $3) returning id, name, title, created_at",
        organization_id, name, title,
    )  # fmt: skip
    assert row is not None  # noqa: S101 - insert … returning gives its row or raises
    return OrganizationView(**row)


async def laboratory_name(connection: Connection) -> str:
    """What the connection's organization is called: its title, else its name."""
    name: str | None = await connection.fetchval("select coalesce(nullif(title, ''), name) from lab.organization")
    return name or ""


async def list_organizations(connection: Connection) -> tuple[OrganizationView, ...]:
    """Every organization, on the connection of the owner role; the application's sees its own only."""
    rows = await connection.fetch("select id, name, title, created_at from lab.organization order by name")
    return tuple(OrganizationView(**row) for row in rows)


async def lock_users(connection: Connection, organization_id: UUID) -> None:
    """Let only one transaction at a time decide whether a user is an organization's first, or its last."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora.users.' || $1, 0))", str(organization_id)
    )


async def has_users(connection: Connection) -> bool:
    return bool(await connection.fetchval("select exists (select from lab.app_user)"))


async def is_disabled(connection: Connection, user_id: UUID | None) -> bool:
    """Whether somebody has disabled the user."""
    return bool(
        await connection.fetchval(
            "select exists (select from lab.app_user where id = $1 and disabled_at is not null)", user_id
        )
    )


async def insert_user(
    connection: Connection,
    organization_id: UUID,
    username: str,
    full_name: str,
    password_hash: str,
    roles: Sequence[str],
) -> UserView:
    """Raises asyncpg.UniqueViolationError when the organization has a user of that name."""
    row = await connection.fetchrow(
        "insert into lab.app_user (id, organization_id, username, full_name, password_hash, roles)"
        " values ($1, $2, $3, $4, $5, $6)"
        " returning id, username, full_name, roles, created_at, disabled_at, locked_until",
        uuid7(), organization_id, username, full_name, password_hash, list(roles),
    )  # fmt: skip
    assert row is not None  # noqa: S101 - insert … returning gives its row or raises
    return UserView(**{**row, "roles": tuple(row["roles"])})


async def list_users(connection: Connection) -> tuple[UserView, ...]:
    rows = await connection.fetch(
        "select id, username, full_name, roles, created_at, disabled_at, locked_until"
        " from lab.app_user order by username"
    )
    return tuple(UserView(**{**row, "roles": tuple(row["roles"])}) for row in rows)


# Nobody is locked for an hour, nor is a token given in the future: a clock that was ahead has been put back since.
_FIND_USER = """
select id, username, password_hash, roles, disabled_at is not null as disabled,
       coalesce(locked_until between clock_timestamp() and clock_timestamp() + interval '1 hour', false) as locked
from lab.app_user where username = $1
"""


async def find_user_secret(connection: Connection, username: str, *, lock: bool = False) -> UserSecret | None:
    """The user of that name; `lock` keeps its row until the transaction ends."""
    row = await connection.fetchrow(" ".join((_FIND_USER, "for update" if lock else "")), username)
    return None if row is None else UserSecret(**{**row, "roles": tuple(row["roles"])})


async def count_failure(connection: Connection, user_id: UUID, limit: int, lock_s: float) -> bool:
    """Count a wrong password; at `limit` in a row the user is locked for `lock_s`. True when this one locked it."""
    return bool(
        await connection.fetchval(
            """
            update lab.app_user
            set failed_logins = case when failed_logins + 1 >= $2 then 0 else failed_logins + 1 end,
                locked_until = case when failed_logins + 1 >= $2
                                    then clock_timestamp() + make_interval(secs => $3) else locked_until end
            where id = $1 returning coalesce(locked_until > clock_timestamp(), false)
            """,
            user_id, limit, lock_s,
        )
    )  # fmt: skip


async def clear_failures(connection: Connection, user_id: UUID) -> None:
    await connection.execute(
        "update lab.app_user set failed_logins = 0, locked_until = null where id = $1 and failed_logins > 0", user_id
    )


async def set_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Also unlocks the user and ends its sessions."""
    await connection.execute(
        "update lab.app_user set password_hash = $2, failed_logins = 0, locked_until = null where id = $1",
        user_id, password_hash,
    )  # fmt: skip
    await revoke_tokens_of_user(connection, user_id)


async def disable_user(connection: Connection, user_id: UUID) -> None:
    """Also ends its sessions."""
    await connection.execute(
        "update lab.app_user set disabled_at = coalesce(disabled_at, clock_timestamp()) where id = $1", user_id
    )
    await revoke_tokens_of_user(connection, user_id)


_CLIENT = """id, name, scopes, created_at, disabled_at, jwks_url,
    case when jwks_url <> '' then 'jwks_url' when jwks <> '{}' then 'jwks' else 'secret' end as authentication"""


async def insert_client(
    connection: Connection,
    organization_id: UUID,
    name: str,
    scopes: Sequence[str],
    *,
    secret_hash: bytes | None = None,
    jwks: Mapping[str, object] | None = None,
    jwks_url: str = "",
) -> ClientView:
    """Exactly one of the ways to prove who it is. Raises asyncpg.UniqueViolationError when the organization has one of
    that name."""
    row = await connection.fetchrow(
        "insert into lab.client (id, organization_id, name, scopes, secret_hash, jwks, jwks_url)"  # noqa: S608 - ours
        f" values ($1, $2, $3, $4, $5, $6, $7) returning {_CLIENT}",
        uuid7(), organization_id, name, list(scopes), secret_hash, jwks or {}, jwks_url,
    )  # fmt: skip
    assert row is not None  # noqa: S101 - insert … returning gives its row or raises
    return ClientView(**{**row, "scopes": tuple(row["scopes"])})


async def list_clients(connection: Connection) -> tuple[ClientView, ...]:
    rows = await connection.fetch(f"select {_CLIENT} from lab.client order by name")  # noqa: S608 - words of ours
    return tuple(ClientView(**{**row, "scopes": tuple(row["scopes"])}) for row in rows)


async def find_client_secret(connection: Connection, client_id: UUID, *, lock: bool = False) -> ClientSecret | None:
    """The client of that id; `lock` keeps its row as it is until the transaction ends."""
    text = (
        "select id, name, secret_hash, jwks, jwks_url, scopes, disabled_at is not null as disabled"
        " from lab.client where id = $1"
    )
    row = await connection.fetchrow(" ".join((text, "for share" if lock else "")), client_id)
    return None if row is None else ClientSecret(**{**row, "scopes": tuple(row["scopes"])})


async def set_client_keys(
    connection: Connection, name: str, jwks: Mapping[str, object] | None, jwks_url: str
) -> UUID | None:
    """Give a client other keys, which ends its secret and its tokens; its id, or None where there is none."""
    found: UUID | None = await connection.fetchval(
        "update lab.client set secret_hash = null, jwks = $2, jwks_url = $3 where name = $1 returning id",
        name, jwks or {}, jwks_url,
    )  # fmt: skip
    if found is not None:
        await _revoke_tokens_of_client(connection, found)
    return found


async def disable_client(connection: Connection, name: str) -> UUID | None:
    """Also ends its tokens; its id, or None where there is none."""
    found: UUID | None = await connection.fetchval(
        "update lab.client set disabled_at = coalesce(disabled_at, clock_timestamp()) where name = $1 returning id",
        name,
    )
    if found is not None:
        await _revoke_tokens_of_client(connection, found)
    return found


async def _revoke_tokens_of_client(connection: Connection, client_id: UUID) -> None:
    await connection.execute(
        "update lab.access_token set revoked_at = clock_timestamp() where client_id = $1 and revoked_at is null",
        client_id,
    )


async def take_assertion(
    connection: Connection, organization_id: UUID, client_id: UUID, jti_digest: bytes, expires_at: datetime
) -> bool:
    """Keep that a client's assertion was used, until it would have expired; False when it had been."""
    await connection.execute(
        "delete from lab.client_assertion where client_id = $1 and expires_at < clock_timestamp()", client_id
    )
    taken = await connection.fetchval(
        "insert into lab.client_assertion (organization_id, client_id, jti_digest, expires_at) values ($1, $2, $3, $4)"
        " on conflict do nothing returning true",
        organization_id, client_id, jti_digest, expires_at,
    )  # fmt: skip
    return bool(taken)


async def organization_exists(connection: Connection) -> bool:
    """Whether there is the organization that the connection acts for."""
    return bool(await connection.fetchval("select exists (select from lab.organization)"))


async def insert_token(
    connection: Connection,
    organization_id: UUID,
    token_hash: bytes,
    lifetime_s: float,
    *,
    user_id: UUID | None = None,
    client_id: UUID | None = None,
    scopes: Sequence[str] = (),
) -> datetime:
    """Keep a token's digest; returns when it expires."""
    expires_at: datetime = await connection.fetchval(
        "insert into lab.access_token (token_hash, organization_id, client_id, user_id, scopes, expires_at)"
        " values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) returning expires_at",
        token_hash, organization_id, client_id, user_id, list(scopes), lifetime_s,
    )  # fmt: skip
    return expires_at


# Of the digests of an array those that are valid, with their holders.
TOKENS = """
select t.token_hash, t.user_id, t.client_id, coalesce(u.username, c.name) as name, coalesce(u.roles, '{}') as roles,
       t.scopes
from lab.access_token t
left join lab.app_user u on u.id = t.user_id left join lab.client c on c.id = t.client_id
where t.token_hash = any($1::bytea[]) and t.expires_at > clock_timestamp() and t.revoked_at is null
  and t.issued_at < clock_timestamp() + interval '5 minutes'
  and u.disabled_at is null and c.disabled_at is null and coalesce(u.id, c.id) is not null
"""


async def find_tokens(connection: Connection, token_hashes: Iterable[bytes]) -> dict[bytes, TokenHolder]:
    """The holders of those that are known, neither expired nor revoked, and whose user or client is not disabled."""
    rows = await connection.fetch(TOKENS, list(token_hashes))
    return {
        hash: TokenHolder(user, client, name, tuple(roles), tuple(scopes))
        for hash, user, client, name, roles, scopes in rows
    }


async def find_ended_token(connection: Connection, token_hash: bytes) -> tuple[TokenHolder, str] | None:
    """The holder of a token that is known but is not valid, and why."""
    row = await connection.fetchrow(
        """
        select t.user_id, t.client_id, coalesce(u.username, c.name) as name, t.scopes,
               case when t.revoked_at is not null then 'revoked'
                    when t.expires_at <= clock_timestamp() then 'expired'
                    when t.issued_at >= clock_timestamp() + interval '5 minutes' then 'expired'
                    else 'disabled' end as reason
        from lab.access_token t
        left join lab.app_user u on u.id = t.user_id left join lab.client c on c.id = t.client_id
        where t.token_hash = $1
        """,
        token_hash,
    )
    if row is None:
        return None
    holder = TokenHolder(row["user_id"], row["client_id"], row["name"] or "", (), tuple(row["scopes"]))
    return holder, row["reason"]


async def revoke_token(connection: Connection, token_hash: bytes) -> bool:
    """True when there was a token to revoke."""
    status = await connection.execute(
        "update lab.access_token set revoked_at = clock_timestamp() where token_hash = $1 and revoked_at is null",
        token_hash,
    )
    return status.endswith(" 1")


async def revoke_tokens_of_user(connection: Connection, user_id: UUID) -> None:
    await connection.execute(
        "update lab.access_token set revoked_at = clock_timestamp() where user_id = $1 and revoked_at is null", user_id
    )

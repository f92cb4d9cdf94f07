"""Organizations, users, clients and tokens: who may act, and how they prove who they are. API and CLI share it.

Every change leaves an audit row in its own transaction, and so does every login, granted or refused. Secrets and tokens
are random, shown once and kept as SHA-256; passwords as argon2id (`flow.passwords`). A token and a client's id begin
with their organization's id, so that row-level security is in force before the first row is read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias
from uuid import UUID

import asyncpg

from interface.domain.permissions import EVERYTHING, Permission, Role, granted, parse_scopes, permissions
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.flow import client_keys, passwords
from interface.flow.client_keys import ClientKeys, KeySource, Refused
from interface.store import actors as rows
from interface.store import audit, catalogue
from interface.store.actors import ClientView, OrganizationView, TokenHolder, UserView
from interface.store.db import Connection, Database
from interface.store.ids import read_id, uuid7
from interface.store.together import Together

FAILURES_TO_LOCK, LOCK_S = 5, 900.0
MOST_TOKENS, TURNS = 64, 4  # that one statement looks for, see `Together`
TOKEN_PREFIX = "lab1"  # noqa: S105 - the format's name, not a token
_TOKEN = re.compile(TOKEN_PREFIX + r"\.([0-9a-f]{32})\.[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_NOBODY = UUID(int=0)  # no organization has it: what is looked up there is not found, at the same cost


@dataclass(frozen=True, slots=True)
class NewUser:
    username: str
    password: str
    roles: tuple[str, ...]
    full_name: str = ""


@dataclass(frozen=True, slots=True)
class IssuedClient:
    """`client_id` and `secret` are what the EMR is configured with; the secret, which a client that signs has none of,
    cannot be shown again."""

    client: ClientView
    client_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token: str
    expires_at: datetime
    lifetime_s: int
    actor: Actor


class BadCredentials(ApiError):
    """Wrong name, password, secret or token, or no longer valid. Which of these is never said."""

    slug = "bad_credentials"

    def __init__(self, text: str = "the name or the password is wrong, or the account is locked") -> None:
        super().__init__(401, "login", text)


# ---- permissions ----------------------------------------------------------------------------------------------------


def may(actor: Actor, permission: Permission) -> bool:
    """Whether a user has the permission. Clients have scopes, not permissions."""
    return actor.kind is ActorKind.USER and permission.value in actor.scopes


def require(actor: Actor, permission: Permission) -> None:
    """Raise ApiError 403 unless the user has the permission."""
    if not may(actor, permission):
        raise ApiError(403, "forbidden", f"this needs the permission {permission.value}")


def setup_actor(organization_id: UUID) -> Actor:
    """Who makes what the first user of an organization needs to exist."""
    return Actor(ActorKind.SETUP, None, "setup", organization_id)


async def _authorize(connection: Connection, actor: Actor, permission: Permission) -> None:
    """A user with the permission; or setup, as long as the organization has no user at all."""
    await rows.lock_users(connection, actor.organization_id)
    if actor.kind is not ActorKind.SETUP:
        require(actor, permission)
        # By whoever it waited for: two would disable each other. Or before: a command asks for passwords, and waits.
        if await rows.is_disabled(connection, actor.id):
            raise ApiError(403, "forbidden", "your account has been disabled")
        return
    if await rows.has_users(connection):
        raise ApiError(403, "forbidden", "the organization has users already; one of them must do this")


# ---- organizations --------------------------------------------------------------------------------------------------


async def create_organization(database: Database, name: str, title: str = "") -> OrganizationView:
    """A new organization with the shipped catalogue. Raises ApiError 409 (name taken), 422 (not a name)."""
    name = _checked_name(name, "an organization")
    organization_id = uuid7()
    try:
        async with database.transaction(organization_id) as connection:
            view = await rows.insert_organization(connection, organization_id, name, title)
            await catalogue.load_shipped(connection, organization_id)
            await audit.record(
                connection, setup_actor(organization_id), "create", "organization", organization_id, {"name": name}
            )
    except asyncpg.UniqueViolationError:
        raise ApiError(409, "duplicate", f"there is an organization {name} already") from None
    return view


async def find_organization(database: Database, name: str) -> UUID:
    """The id of the organization of that name; raises ApiError 404."""
    found = await database.find_organization(name)
    if found is None:
        raise ApiError(404, "not-found", f"there is no organization {name}")
    return found


# ---- users ----------------------------------------------------------------------------------------------------------


async def create_user(database: Database, actor: Actor, new: NewUser) -> UserView:
    """A new user of the actor's organization. Raises ApiError 403, 409 (name taken), 422 (name, password, role)."""
    username = _checked_name(new.username, "a user")
    roles = tuple(dict.fromkeys(new.roles))
    known = {role.value for role in Role}
    if not roles or not known.issuperset(roles):
        raise ApiError(422, "value", f"a user has one or more of the roles {', '.join(sorted(known))}")
    if actor.kind is not ActorKind.SETUP:
        require(actor, Permission.USER_WRITE)
    password_hash = await passwords.digest(new.password)
    try:
        async with database.transaction(actor.organization_id) as connection:
            await _authorize(connection, actor, Permission.USER_WRITE)
            if actor.kind is ActorKind.SETUP and Role.ADMINISTRATOR.value not in roles:
                raise ApiError(422, "value", "the first user of an organization must be an administrator")
            view = await rows.insert_user(
                connection, actor.organization_id, username, new.full_name, password_hash, roles
            )
            detail = {"username": username, "roles": " ".join(roles)}
            await audit.record(connection, actor, "create", "user", view.id, detail)
    except asyncpg.UniqueViolationError:
        raise ApiError(409, "duplicate", f"there is a user {username} already") from None
    return view


async def list_users(database: Database, actor: Actor) -> tuple[UserView, ...]:
    """Every user of the actor's organization; raises ApiError 403. Setup may look: it has the database anyway."""
    if actor.kind is not ActorKind.SETUP:
        require(actor, Permission.USER_READ)
    async with database.transaction(actor.organization_id) as connection:
        await audit.record(connection, actor, "search", "user")
        return await rows.list_users(connection)


async def disable_user(database: Database, actor: Actor, username: str) -> None:
    """End a user's account and sessions. Raises ApiError 403, 404, 409 (oneself: somebody must be left)."""
    require(actor, Permission.USER_WRITE)
    async with database.transaction(actor.organization_id) as connection:
        await _authorize(connection, actor, Permission.USER_WRITE)
        user = await _existing_user(connection, username)
        if user.id == actor.id:
            raise ApiError(409, "conflict", "nobody can disable their own account")
        await rows.disable_user(connection, user.id)
        await audit.record(connection, actor, "disable", "user", user.id, {"username": user.username})


async def set_password(database: Database, actor: Actor, username: str, password: str) -> None:
    """Give a user a new password, which unlocks the account and ends its sessions.

    For oneself, or with the permission to change users. Raises ApiError 403, 404, 422 (password).
    """
    password_hash = await passwords.digest(password)
    async with database.transaction(actor.organization_id) as connection:
        if actor.kind is not ActorKind.USER or _folded(username) != actor.name:
            require(actor, Permission.USER_WRITE)
            await _authorize(connection, actor, Permission.USER_WRITE)
        user = await _existing_user(connection, username)
        await rows.set_password(connection, user.id, password_hash)
        await audit.record(connection, actor, "password", "user", user.id, {"username": user.username})


async def _existing_user(connection: Connection, username: str) -> rows.UserSecret:
    user = await rows.find_user_secret(connection, _folded(username), lock=True)
    if user is None:
        raise ApiError(404, "not-found", "there is no such user")
    return user


async def authenticate(database: Database, organization: str, username: str, password: str, address: str = "") -> Actor:
    """The user who knows the password. Raises as `_known`."""
    return (await _known(database, organization, username, password, address))[0]


async def _known(
    database: Database, organization: str, username: str, password: str, address: str
) -> tuple[Actor, rows.UserSecret]:
    """The user who knows the password. Raises BadCredentials; FAILURES_TO_LOCK wrong ones lock the user for LOCK_S.

    Unknown organizations and users, disabled and locked ones take as long as a wrong password.
    """
    organization_id = await database.find_organization(organization) or _NOBODY
    username = _folded(username)
    async with database.claimed(organization_id) as connection:
        user = await rows.find_user_secret(connection, username)
    usable = user is not None and not user.disabled and not user.locked
    right = await passwords.matches(user.password_hash if user is not None and usable else None, password)
    if user is None:
        if organization_id != _NOBODY:
            await _refuse_login(database, _stranger(organization_id, username, address), "unknown_user")
        raise BadCredentials
    actor = Actor(
        ActorKind.USER, user.id, user.username, organization_id,
        scopes=permissions(user.roles), roles=frozenset(user.roles), address=address,
    )  # fmt: skip
    if not usable:
        await _refuse_login(database, actor, "disabled" if user.disabled else "locked")
        raise BadCredentials
    refused = False
    async with database.transaction(organization_id) as connection:
        now = await rows.find_user_secret(connection, username, lock=True)
        # While the digest was computed, other wrong passwords may have locked the user, or an administrator changed it.
        if not right or now is None or now.locked or now.disabled or now.password_hash != user.password_hash:
            refused = True
            locked = not right and await rows.count_failure(connection, user.id, FAILURES_TO_LOCK, LOCK_S)
            reason = "wrong_password, now locked" if locked else "wrong_password" if not right else "locked"
            await audit.record(connection, actor, "login", "user", user.id, {"reason": reason}, "refused")
        else:
            await rows.clear_failures(connection, user.id)
            await audit.record(connection, actor, "login", "user", user.id)
    if refused:
        raise BadCredentials
    return actor, user


def _stranger(organization_id: UUID, name: str, address: str) -> Actor:
    """Somebody who claims to be `name`: kept for the audit only."""
    return Actor(ActorKind.USER, None, name, organization_id, address=address)


async def _refuse_login(database: Database, actor: Actor, reason: str) -> None:
    async with database.transaction(actor.organization_id) as connection:
        await audit.record(connection, actor, "login", "user", actor.id, {"reason": reason}, "refused")


async def login(
    database: Database, organization: str, username: str, password: str, lifetime_s: int, address: str = ""
) -> IssuedToken:
    """`authenticate`, and a token for what follows."""
    actor, user = await _known(database, organization, username, password, address)
    return await _issue(database, actor, lifetime_s, user)


# ---- clients --------------------------------------------------------------------------------------------------------


async def create_client(
    database: Database,
    actor: Actor,
    name: str,
    scopes: Sequence[str],
    keys: ClientKeys | None = None,
    key_hosts: frozenset[str] = frozenset(),
) -> IssuedClient:
    """A new client with SMART scopes, and with a secret, or with `keys` that it signs with.

    `key_hosts`: from where keys may be fetched. Raises ApiError 403, 409 (name taken), 422 (name, scope or keys).
    """
    name = _checked_name(name, "a client")
    try:
        allowed = granted(parse_scopes(scopes), parse_scopes(EVERYTHING))
    except ValueError as error:
        raise ApiError(422, "value", str(error)) from None
    if not allowed:
        raise ApiError(422, "required", "a client needs at least one scope")
    keys = client_keys.checked(keys, key_hosts) if keys is not None else None
    secret = "" if keys else secrets.token_urlsafe(32)
    try:
        async with database.transaction(actor.organization_id) as connection:
            await _authorize(connection, actor, Permission.CLIENT_WRITE)
            view = await rows.insert_client(
                connection, actor.organization_id, name, [str(scope) for scope in allowed],
                secret_hash=_sha256(secret) if secret else None,
                jwks=keys.document if keys else None, jwks_url=keys.url if keys else "",
            )  # fmt: skip
            detail = {"name": name, "scopes": " ".join(view.scopes), "authentication": view.authentication}
            await audit.record(connection, actor, "create", "client", view.id, detail)
    except asyncpg.UniqueViolationError:
        raise ApiError(409, "duplicate", f"there is a client {name} already") from None
    return IssuedClient(view, client_id_of(actor.organization_id, view), secret)


async def set_client_keys(
    database: Database, actor: Actor, name: str, keys: ClientKeys, key_hosts: frozenset[str]
) -> None:
    """Give a client other keys, in place of those it had or of its secret; its tokens end.

    Raises ApiError 403, 404, 422 (keys).
    """
    require(actor, Permission.CLIENT_WRITE)
    keys = client_keys.checked(keys, key_hosts)
    async with database.transaction(actor.organization_id) as connection:
        changed = await rows.set_client_keys(connection, _folded(name), keys.document, keys.url)
        if changed is None:
            raise ApiError(404, "not-found", "there is no such client")
        await audit.record(connection, actor, "keys", "client", changed, {"name": _folded(name), "url": keys.url})


async def disable_client(database: Database, actor: Actor, name: str) -> None:
    """End a client's tokens and let it have no others. Raises ApiError 403, 404."""
    require(actor, Permission.CLIENT_WRITE)
    async with database.transaction(actor.organization_id) as connection:
        ended = await rows.disable_client(connection, _folded(name))
        if ended is None:
            raise ApiError(404, "not-found", "there is no such client")
        await audit.record(connection, actor, "disable", "client", ended, {"name": _folded(name)})


async def list_clients(database: Database, actor: Actor) -> tuple[ClientView, ...]:
    """Every client of the actor's organization; raises ApiError 403. Setup may look: it has the database anyway."""
    if actor.kind is not ActorKind.SETUP:
        require(actor, Permission.CLIENT_WRITE)
    async with database.transaction(actor.organization_id) as connection:
        await audit.record(connection, actor, "search", "client")
        return await rows.list_clients(connection)


def client_id_of(organization_id: UUID, client: ClientView) -> str:
    """What the EMR is configured with as client id."""
    return f"{organization_id.hex}.{client.id.hex}"


async def client_token(
    database: Database, client_id: str, secret: str, scope: str, lifetime_s: int, address: str = ""
) -> IssuedToken:
    """OAuth 2.0 client credentials: a token with the part of `scope` that the client is allowed ("": all of it).

    Raises BadCredentials; ApiError 400 `invalid_scope` when nothing of the scope is allowed or it cannot be read.
    """
    organization_id, row_id = client_keys.organization_of(client_id) or (_NOBODY, _NOBODY)
    async with database.claimed(organization_id) as connection:
        client = await rows.find_client_secret(connection, row_id)
        right = hmac.compare_digest((client and client.secret_hash) or b"\0" * 32, _sha256(secret))
        if client is None:
            await _note_unknown(connection, organization_id, row_id, address)
        elif not right or client.disabled:
            actor = _client_actor(client, organization_id, address)
            reason = "disabled" if right else "wrong_secret"
            await audit.record(connection, actor, "token", "client", client.id, {"reason": reason}, "refused")
    if client is None or not right or client.disabled:
        raise BadCredentials("unknown client or wrong secret")
    actor = await _with_scopes(database, client, _client_actor(client, organization_id, address), scope)
    return await _issue(database, actor, lifetime_s, client)


async def assertion_token(
    database: Database,
    assertion: str,
    client_id: str,
    scope: str,
    lifetime_s: int,
    token_url: str,
    source: KeySource,
    address: str = "",
) -> IssuedToken:
    """The same for a client that signs (private_key_jwt): `assertion` is a JWT for `token_url`, taken once.

    `client_id`, where it is sent as well, must be the assertion's subject.

    Raises BadCredentials; ApiError 400 `invalid_scope`. Why an assertion is refused stands in the audit.
    """
    refusal = BadCredentials("the client assertion is not accepted")
    try:
        claimed = client_keys.peek(assertion)
    except Refused:
        raise refusal from None
    organization_id, row_id = client_keys.organization_of(claimed.client_id) or (_NOBODY, _NOBODY)
    async with database.claimed(organization_id) as connection:
        client = await rows.find_client_secret(connection, row_id)
        if client is None:
            await _note_unknown(connection, organization_id, row_id, address)
    if client is None:
        raise refusal
    actor = _client_actor(client, organization_id, address)
    try:
        if claimed.problem:
            raise Refused(claimed.problem)
        if client_id and client_id != claimed.client_id:
            raise Refused("issuer")
        if client.disabled:
            raise Refused("disabled")
        key = await client_keys.signing_key(claimed, client.jwks, client.jwks_url, source)
        claims = client_keys.verified(assertion, key, claimed.algorithm)
        if problem := client_keys.claims_problem(claims, claimed.client_id, token_url, datetime.now(UTC)):
            raise Refused(problem)
        async with database.transaction(organization_id) as connection:
            if not await rows.take_assertion(connection, organization_id, client.id, *client_keys.spent(claims)):
                raise Refused("replayed")
    except Refused as error:
        async with database.transaction(organization_id) as connection:
            await audit.record(connection, actor, "token", "client", client.id, {"reason": error.reason}, "refused")
        raise refusal from None
    return await _issue(database, await _with_scopes(database, client, actor, scope), lifetime_s, client)


def _client_actor(client: rows.ClientSecret, organization_id: UUID, address: str) -> Actor:
    return Actor(ActorKind.CLIENT, client.id, client.name, organization_id, address=address)


async def _note_unknown(connection: Connection, organization_id: UUID, claimed: UUID, address: str) -> None:
    """Somebody claims to be a client that there is not: in the audit of the laboratory that it would be of."""
    if await rows.organization_exists(connection):
        actor = Actor(ActorKind.CLIENT, None, claimed.hex, organization_id, address=address)
        await audit.record(connection, actor, "token", "client", None, {"reason": "unknown_client"}, "refused")


async def _with_scopes(database: Database, client: rows.ClientSecret, actor: Actor, scope: str) -> Actor:
    """The client with the part of `scope` that it is allowed. Raises ApiError 400 `invalid_scope`, audited."""
    problem = "the client is allowed none of these scopes"
    try:
        scopes = granted(parse_scopes([scope or " ".join(client.scopes)]), parse_scopes(client.scopes))
    except ValueError as error:
        scopes, problem = (), str(error)
    if not scopes:
        async with database.transaction(actor.organization_id) as connection:
            detail = {"reason": "scope", "asked": scope}
            await audit.record(connection, actor, "token", "client", client.id, detail, "refused")
        raise ApiError(400, "invalid_scope", problem)
    return replace(actor, scopes=frozenset(map(str, scopes)))


# ---- tokens ---------------------------------------------------------------------------------------------------------

# Of an organization and a token's digest the holder, where the token is valid.
FindHolder: TypeAlias = Callable[[UUID, bytes], Awaitable[TokenHolder | None]]


async def _issue(
    database: Database, actor: Actor, lifetime_s: int, proved: rows.UserSecret | rows.ClientSecret
) -> IssuedToken:
    """`proved`: by what the actor has proved who they are. Raises BadCredentials where that is another by now: who
    changed it has ended the tokens that there were then."""
    token = f"{TOKEN_PREFIX}.{actor.organization_id.hex}.{secrets.token_urlsafe(32)}"
    is_client = actor.kind is ActorKind.CLIENT
    async with database.transaction(actor.organization_id) as connection:
        if not await _still(connection, proved):
            raise BadCredentials
        expires_at = await rows.insert_token(
            connection, actor.organization_id, _sha256(token), lifetime_s,
            user_id=None if is_client else actor.id, client_id=actor.id if is_client else None,
            scopes=sorted(actor.scopes) if is_client else (),
        )  # fmt: skip
        if is_client:
            detail = {"scopes": " ".join(sorted(actor.scopes))}
            await audit.record(connection, actor, "token", "client", actor.id, detail)
    return IssuedToken(token, expires_at, lifetime_s, actor)


async def _still(connection: Connection, proved: rows.UserSecret | rows.ClientSecret) -> bool:
    """Whether it stands, and stays so until the transaction ends."""
    if isinstance(proved, rows.ClientSecret):
        return await rows.find_client_secret(connection, proved.id, lock=True) == proved
    now = await rows.find_user_secret(connection, proved.username, lock=True)
    return now is not None and not now.disabled and now.password_hash == proved.password_hash


async def token_actor(database: Database, token: str, address: str = "") -> Actor | None:
    """Who a bearer token stands for; None when it is malformed, unknown, expired, revoked, or its holder disabled.

    A user's permissions are those of the roles of now, not of the login.
    """
    return await Tokens(database).actor(token, address)


class Tokens:
    """Who bearer tokens stand for, asked of the database for every request. Those that come while a statement is under
    way share the next: it begins after each of them came, so what was committed before one came holds for it. Nothing
    is remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: dict[UUID, Together[bytes, TokenHolder | None]] = {}  # of organizations that exist

    async def actor(self, token: str, address: str = "", find: FindHolder | None = None) -> Actor | None:
        """As `token_actor`. `find`: finds the holder, of a laboratory that there is, along with something else."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        organization_id, digest = read_id(match[1]), _sha256(token)
        if self._database.knows(organization_id):
            holder = await (find or self.holder)(organization_id, digest)
        else:
            async with self._database.claimed(organization_id) as connection:
                holder = (await rows.find_tokens(connection, (digest,))).get(digest)
        if holder is None:
            return None
        if holder.user_id is None:
            scopes = frozenset(holder.scopes)
            return Actor(ActorKind.CLIENT, holder.client_id, holder.name, organization_id, scopes, address=address)
        roles = frozenset(holder.roles)
        return Actor(ActorKind.USER, holder.user_id, holder.name, organization_id, permissions(roles), roles, address)

    async def holder(self, organization_id: UUID, digest: bytes) -> TokenHolder | None:
        """Whom the token of this digest stands for, of a laboratory that there is; None where it is not valid."""
        return await self._of(organization_id).want(digest)

    def _of(self, organization_id: UUID) -> Together[bytes, TokenHolder | None]:
        asked = self._asked.get(organization_id)
        if asked is None:
            find = partial(self._find, organization_id)
            asked = self._asked[organization_id] = Together(find, MOST_TOKENS, TURNS)
        return asked

    async def _find(self, organization_id: UUID, digests: Sequence[bytes]) -> list[TokenHolder | None]:
        async with self._database.at_once(organization_id) as connection:
            found = await rows.find_tokens(connection, dict.fromkeys(digests))
        return [found.get(digest) for digest in digests]


async def refused_token(database: Database, token: str, address: str = "") -> tuple[Actor, str] | None:
    """Of a token that `token_actor` does not take: whose it was, or claims to be, and why it is not taken; None when it
    is of no laboratory that there is."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    organization_id = UUID(match[1])
    async with database.claimed(organization_id) as connection:
        ended = await rows.find_ended_token(connection, _sha256(token))
        if ended is None and not await rows.organization_exists(connection):
            return None
    if ended is None:
        return Actor(ActorKind.CLIENT, None, "", organization_id, address=address), "unknown"
    holder, reason = ended
    kind = ActorKind.CLIENT if holder.user_id is None else ActorKind.USER
    return Actor(kind, holder.user_id or holder.client_id, holder.name, organization_id, address=address), reason


async def is_gone(connection: Connection, actor: Actor, token: str = "") -> bool:
    """Whether somebody has disabled the user since, or the token has ended by which they are known."""
    if token and not await rows.find_tokens(connection, (_sha256(token),)):
        return True
    return await rows.is_disabled(connection, actor.id)


async def revoke_token(database: Database, actor: Actor, token: str) -> None:
    """End the session that `token` is; once is enough, again does nothing."""
    async with database.transaction(actor.organization_id) as connection:
        if await rows.revoke_token(connection, _sha256(token)):
            await audit.record(connection, actor, "logout", actor.kind.value, actor.id)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold().replace("\0", "")


def _checked_name(name: str, of: str) -> str:
    folded = _folded(name)
    if _NAME.fullmatch(folded) is None:
        raise ApiError(
            422, "value", f"the name of {of} has 1 to 64 of a-z 0-9 . _ @ - and begins with a letter or digit"
        )
    return folded

"""Organizations, users and clients: who may make them, and what guards their secrets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from uuid import uuid4

import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError

from interface.domain.permissions import ROLE_PERMISSIONS, Permission, Role, permissions
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.flow import actors, passwords
from interface.flow.actors import FAILURES_TO_LOCK, BadCredentials, NewUser, setup_actor
from interface.store.db import Database
from tests.conftest import Organization

PASSWORD = "correct horse battery"
ADMIN = NewUser("admin", PASSWORD, ("administrator",))


async def an_admin(database: Database, organization: Organization) -> Actor:
    await actors.create_user(database, setup_actor(organization.id), ADMIN)
    return await actors.authenticate(database, organization.name, "admin", PASSWORD)


async def refusals(database: Database, organization: Organization) -> list[str]:
    async with database.organization(organization.id) as connection:
        rows = await connection.fetch("select detail from lab.audit_event where outcome = 'refused' order by id")
    return [row["detail"]["reason"] for row in rows]


async def test_a_new_organization_has_the_shipped_catalogue_and_its_name_once(database: Database) -> None:
    name = f"lab-{uuid4().hex}"
    made = await actors.create_organization(database, name)
    assert await actors.find_organization(database, name) == made.id
    async with database.organization(made.id) as connection:
        assert await connection.fetchval("select count(*) from lab.test") > 20
        assert await connection.fetchval("select action from lab.audit_event where entity_id = $1", made.id) == "create"
    with pytest.raises(ApiError, match="already"):
        await actors.create_organization(database, name)
    with pytest.raises(ApiError, match="name of an organization"):
        await actors.create_organization(database, "two words")
    with pytest.raises(ApiError, match="no organization"):
        await actors.find_organization(database, uuid4().hex)


async def test_setup_makes_the_first_user_and_no_other(database: Database, organization: Organization) -> None:
    setup = setup_actor(organization.id)
    with pytest.raises(ApiError, match="must be an administrator"):
        await actors.create_user(database, setup, replace(ADMIN, roles=("viewer",)))
    made = await asyncio.gather(
        *(actors.create_user(database, setup, replace(ADMIN, username=f"admin{place}")) for place in range(3)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in made) == ["ApiError", "ApiError", "UserView"]
    with pytest.raises(ApiError, match="has users already"):
        await actors.create_client(database, setup, "emr", ["system/*.rs"])


async def test_two_administrators_who_disable_each_other_at_once_leave_one(
    database: Database, organization: Organization
) -> None:
    first = await an_admin(database, organization)
    for _ in range(5):  # the one who is left, and a new one
        name = f"a{uuid4().hex}"
        await actors.create_user(database, first, replace(ADMIN, username=name))
        second = await actors.authenticate(database, organization.name, name, PASSWORD)
        both = {first: second, second: first}
        done = await asyncio.gather(
            *(actors.disable_user(database, actor, other.name) for actor, other in both.items()),
            return_exceptions=True,
        )
        [refused] = [one for one in done if one is not None]
        assert isinstance(refused, ApiError) and refused.status == 403
        [left] = [one for one in await actors.list_users(database, setup_actor(organization.id)) if not one.disabled_at]
        first = next(actor for actor in both if actor.id == left.id)


async def test_who_was_disabled_while_their_command_waited_changes_nobody(
    database: Database, organization: Organization
) -> None:
    """It asks for the new password after it has asked who does it: a disabled administrator made another."""
    first = await an_admin(database, organization)
    await actors.create_user(database, first, replace(ADMIN, username="gone"))
    gone = await actors.authenticate(database, organization.name, "gone", PASSWORD)
    await actors.disable_user(database, first, "gone")
    for late in (
        actors.create_user(database, gone, replace(ADMIN, username="other")),
        actors.create_client(database, gone, "emr", ["system/*.rs"]),
        actors.set_password(database, gone, first.name, "another password of theirs"),
        actors.disable_user(database, gone, first.name),
    ):
        with pytest.raises(ApiError, match="has been disabled"):
            await late
    await actors.authenticate(database, organization.name, first.name, PASSWORD)


async def test_only_an_administrator_makes_users_and_clients(database: Database, organization: Organization) -> None:
    admin = await an_admin(database, organization)
    await actors.create_user(database, admin, NewUser("Vera", PASSWORD, ("technologist", "technologist")))
    vera = await actors.authenticate(database, organization.name, " VERA ", PASSWORD)
    assert (vera.name, vera.roles) == ("vera", frozenset({"technologist"}))
    for forbidden in (
        actors.create_user(database, vera, NewUser("other", PASSWORD, ("viewer",))),
        actors.create_client(database, vera, "emr", ["system/*.rs"]),
        actors.disable_user(database, vera, "admin"),
        actors.set_password(database, vera, "admin", PASSWORD),
        actors.list_users(database, vera),
    ):
        with pytest.raises(ApiError) as caught:
            await forbidden
        assert caught.value.status == 403


@pytest.mark.parametrize("password", ["", "short", "eleven char", "x" * 1025])
async def test_a_password_is_long_enough_and_not_too_long(
    database: Database, organization: Organization, password: str
) -> None:
    with pytest.raises(ApiError, match="12 characters"):
        await actors.create_user(database, setup_actor(organization.id), replace(ADMIN, password=password))


async def test_no_secret_is_stored_as_it_is(database: Database, organization: Organization) -> None:
    admin = await an_admin(database, organization)
    client = await actors.create_client(database, admin, "emr", ["system/*.rs"])
    issued = await actors.client_token(database, client.client_id, client.secret, "", 60)
    async with database.organization(organization.id) as connection:
        password_hash = await connection.fetchval("select password_hash from lab.app_user")
        stored = [
            password_hash.encode(),
            await connection.fetchval("select secret_hash from lab.client"),
            await connection.fetchval("select token_hash from lab.access_token"),
        ]
        trail = str([tuple(row) for row in await connection.fetch("select * from lab.audit_event")])
    assert password_hash.startswith("$argon2id$")
    for secret in (PASSWORD, client.secret, issued.token):
        assert secret not in trail
        assert all(secret.encode() not in text for text in stored)
    assert client.client_id.startswith(organization.id.hex)
    assert issued.token.startswith(f"lab1.{organization.id.hex}.")


def test_a_digest_is_as_costly_as_it_should_be() -> None:
    code = (
        "import asyncio; from interface.flow.passwords import _decoy, digest;"
        "print(asyncio.run(digest('a' * 12))); print(_decoy())"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    digest, decoy = made.stdout.split()
    assert digest.startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106 4, second recommendation
    assert extract_parameters(decoy) == extract_parameters(digest), "who is unknown costs as much"


def test_no_password_is_the_one_of_nobody() -> None:
    """A check against it goes the whole way, and fails by what it computed."""
    with pytest.raises(VerifyMismatchError):
        passwords._hasher.verify(passwords._decoy(), "a" * 12)


async def test_wrong_passwords_lock_the_user_even_against_the_right_one(
    database: Database, organization: Organization
) -> None:
    await an_admin(database, organization)
    for _ in range(FAILURES_TO_LOCK):
        with pytest.raises(BadCredentials):
            await actors.authenticate(database, organization.name, "admin", "wrong horse battery")
    with pytest.raises(BadCredentials):
        await actors.authenticate(database, organization.name, "admin", PASSWORD)
    reasons = await refusals(database, organization)
    assert reasons == ["wrong_password"] * (FAILURES_TO_LOCK - 1) + ["wrong_password, now locked", "locked"]
    async with database.transaction(organization.id) as connection:
        await connection.execute("update lab.app_user set locked_until = now() - interval '1 second'")
    assert (await actors.authenticate(database, organization.name, "admin", PASSWORD)).name == "admin"


async def test_a_burst_of_guesses_is_counted_whole(database: Database, organization: Organization) -> None:
    await an_admin(database, organization)
    guesses = [
        actors.authenticate(database, organization.name, "admin", f"wrong horse {place}")
        for place in range(FAILURES_TO_LOCK)
    ]
    right = actors.authenticate(database, organization.name, "admin", PASSWORD)
    await asyncio.gather(*guesses, return_exceptions=True)
    with pytest.raises(BadCredentials):
        await right


async def test_an_unknown_user_costs_a_password_check_too(
    database: Database, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    verify = passwords._verify

    def counting(stored: str | None, password: str) -> bool:
        checked.append(stored is None)
        return verify(stored, password)

    monkeypatch.setattr(passwords, "_verify", counting)
    for name in (organization.name, uuid4().hex):
        with pytest.raises(BadCredentials):
            await actors.authenticate(database, name, "nobody", PASSWORD)
    assert checked == [True, True]
    assert await refusals(database, organization) == ["unknown_user"]


async def test_a_disabled_user_is_out_at_once(database: Database, organization: Organization) -> None:
    admin = await an_admin(database, organization)
    await actors.create_user(database, admin, NewUser("vera", PASSWORD, ("viewer",)))
    issued = await actors.login(database, organization.name, "vera", PASSWORD, 60)
    assert await actors.token_actor(database, issued.token) is not None
    await actors.disable_user(database, admin, "vera")
    assert await actors.token_actor(database, issued.token) is None
    with pytest.raises(BadCredentials):
        await actors.authenticate(database, organization.name, "vera", PASSWORD)
    with pytest.raises(ApiError, match="own account"):
        await actors.disable_user(database, admin, "admin")
    with pytest.raises(ApiError, match="no such user"):
        await actors.disable_user(database, admin, "nobody")


async def test_a_new_password_ends_sessions_and_the_old_one(database: Database, organization: Organization) -> None:
    admin = await an_admin(database, organization)
    issued = await actors.login(database, organization.name, "admin", PASSWORD, 60)
    await actors.set_password(database, admin, "admin", "another horse battery")
    assert await actors.token_actor(database, issued.token) is None
    with pytest.raises(BadCredentials):
        await actors.authenticate(database, organization.name, "admin", PASSWORD)
    await actors.authenticate(database, organization.name, "admin", "another horse battery")


async def test_a_token_is_good_for_its_lifetime_and_with_the_roles_of_now(
    database: Database, organization: Organization
) -> None:
    await an_admin(database, organization)
    ended = await actors.login(database, organization.name, "admin", PASSWORD, 0)
    assert await actors.token_actor(database, ended.token) is None
    issued = await actors.login(database, organization.name, "admin", PASSWORD, 60)
    async with database.transaction(organization.id) as connection:
        await connection.execute("update lab.app_user set roles = '{viewer,no_longer_known}'")
    now = await actors.token_actor(database, issued.token, "10.0.0.1")
    assert now is not None
    assert (now.scopes, now.address) == (permissions(["viewer"]), "10.0.0.1")


async def test_what_a_clock_that_was_ahead_has_given_or_locked_lasts_no_longer(
    database: Database, organization: Organization
) -> None:
    """After it was put right: neither a session for a year, nor a person who may not log in for as long."""
    await an_admin(database, organization)
    issued = await actors.login(database, organization.name, "admin", PASSWORD, 60)
    async with database.transaction(organization.id) as connection:
        later = "interval '1 year'"
        await connection.execute(
            f"update lab.access_token set issued_at = issued_at + {later}, expires_at = expires_at + {later}"  # noqa: S608
        )
        await connection.execute(f"update lab.app_user set locked_until = now() + {later}")  # noqa: S608
    assert await actors.token_actor(database, issued.token) is None
    refused = await actors.refused_token(database, issued.token)
    assert refused is not None and refused[1] == "expired"
    assert (await actors.authenticate(database, organization.name, "admin", PASSWORD)).name == "admin"


async def test_an_organizations_secrets_are_nothing_in_another(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    admin = await an_admin(database, organization)
    await an_admin(database, other_organization)
    client = await actors.create_client(database, admin, "emr", ["system/*.rs"])
    issued = await actors.client_token(database, client.client_id, client.secret, "", 60)
    foreign = issued.token.replace(organization.id.hex, other_organization.id.hex)
    assert await actors.token_actor(database, foreign) is None
    with pytest.raises(BadCredentials):
        moved = client.client_id.replace(organization.id.hex, other_organization.id.hex)
        await actors.client_token(database, moved, client.secret, "", 60)


# ---- roles and scopes -----------------------------------------------------------------------------------------------


def test_every_role_has_permissions_and_only_laboratory_staff_release() -> None:
    assert set(ROLE_PERMISSIONS) == set(Role)
    assert all(ROLE_PERMISSIONS.values())
    releasing = {role for role in Role if Permission.RESULT_RELEASE in ROLE_PERMISSIONS[role]}
    assert releasing == {Role.LABORATORY_DIRECTOR, Role.TECHNOLOGIST}
    assert Permission.RESULT_READ not in ROLE_PERMISSIONS[Role.AUDITOR]


def test_a_client_has_scopes_and_no_permissions() -> None:
    client = Actor(ActorKind.CLIENT, uuid4(), "emr", uuid4(), frozenset({"result:release"}))
    assert not actors.may(client, Permission.RESULT_RELEASE)

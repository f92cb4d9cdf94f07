"""`labora organization`, `user` and `client` over a real database, as an administrator uses them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from interface import cli
from interface.flow import actors
from interface.store.db import Database
from tests.api.signing import ec_key, public
from tests.cluster import owner_of

PASSWORD, OTHER = "correct horse battery", "another horse battery"


class Terminal:
    """Runs commands against one database and reads what they print."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Status, stdout and stderr of `labora arguments`."""
        with self._monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(f"LABORA_{name}", value)
            status = cli.run_command(arguments)
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def json(self, *arguments: str, **environment: str) -> Any:
        status, out, err = self.run(*arguments, "--json", **environment)
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def terminal(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    config = tmp_path / "config.toml"
    config.write_text("")
    monkeypatch.setenv("LABORA_CONFIG", str(config))
    monkeypatch.setenv("LABORA_DATABASE_URL", database_url)
    monkeypatch.setenv("LABORA_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("LABORA_ORGANIZATION", "main")
    for name in ("PASSWORD", "NEW_PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"LABORA_{name}", raising=False)
    return Terminal(monkeypatch, capsys)


async def in_thread(function: Any, *arguments: Any, **options: Any) -> Any:
    """A command runs its own event loop, so beside the test's."""
    return await asyncio.to_thread(function, *arguments, **options)


async def test_an_administrator_sets_a_laboratory_up(terminal: Terminal, database_url: str) -> None:
    await in_thread(set_up, terminal)
    made = await in_thread(
        terminal.json, "client", "create", "emr", "--scope", "system/Observation.read", "--scope", "system/Patient.rs",
        "--as", "admin", PASSWORD=PASSWORD,
    )  # fmt: skip
    assert made["scopes"] == ["system/Observation.rs", "system/Patient.rs"]
    database = await Database.connect(database_url)
    try:
        issued = await actors.client_token(database, made["client_id"], made["client_secret"], "", 60)
        assert issued.actor.name == "emr"
    finally:
        await database.close()
    listed = await in_thread(terminal.run, "client", "list", "--json", "--as", "admin", PASSWORD=PASSWORD)
    assert made["client_id"] in listed[1]
    assert made["client_secret"] not in "".join(listed[1:])


def set_up(terminal: Terminal) -> None:
    made = terminal.json("organization", "create", "main", "--title", "Main Laboratory")
    assert (made["name"], made["title"]) == ("main", "Main Laboratory")
    user = terminal.json("user", "create", "admin", "--role", "administrator", NEW_PASSWORD=PASSWORD)
    assert user["roles"] == ["administrator"]
    assert "password" not in json.dumps(user)


async def test_after_the_first_user_somebody_must_say_who_they_are(terminal: Terminal) -> None:
    await in_thread(set_up, terminal)
    for command in (
        ("user", "create", "vera", "--role", "viewer"),
        ("client", "create", "emr", "--scope", "system/*.rs"),
    ):
        status, out, err = await in_thread(terminal.run, *command, NEW_PASSWORD=PASSWORD)
        assert (status, out) == (1, "")
        assert "one of them must do this" in err
        status, out, err = await in_thread(
            terminal.run, *command, "--as", "admin", NEW_PASSWORD=PASSWORD, PASSWORD="wrong horse battery"
        )
        assert (status, out) == (1, "")
        assert "password is wrong" in err
    for word in ("disable", "password"):
        status, out, _ = await in_thread(terminal.run, "user", word, "admin", NEW_PASSWORD=OTHER)
        assert (status, out) == (2, "")


async def test_users_are_listed_disabled_and_change_their_password(terminal: Terminal) -> None:
    await in_thread(set_up, terminal)
    admin = {"PASSWORD": PASSWORD, "NEW_PASSWORD": PASSWORD}
    await in_thread(terminal.json, "user", "create", "vera", "--role", "technologist", "--as", "admin", **admin)
    users = await in_thread(terminal.json, "user", "list")
    assert [user["username"] for user in users] == ["admin", "vera"]
    status, _, _ = await in_thread(
        terminal.run, "user", "password", "vera", "--as", "vera", PASSWORD=PASSWORD, NEW_PASSWORD=OTHER
    )
    assert status == 0
    status, _, err = await in_thread(terminal.run, "user", "list", "--as", "vera", PASSWORD=OTHER)
    assert (status, "user:read" in err) == (1, True)
    assert (await in_thread(terminal.run, "user", "disable", "vera", "--as", "admin", **admin))[0] == 0
    users = await in_thread(terminal.json, "user", "list")
    assert [user["disabled_at"] is None for user in users] == [True, False]


async def test_a_client_that_signs_has_no_secret_and_gets_other_keys(terminal: Terminal, tmp_path: Path) -> None:
    await in_thread(set_up, terminal)
    keys, admin = tmp_path / "keys.json", {"PASSWORD": PASSWORD}
    keys.write_text(json.dumps({"keys": [public(ec_key(), "1")]}))
    create = ("client", "create", "emr", "--scope", "system/*.rs", "--as", "admin", "--jwks")
    for source, status, says in (
        (str(tmp_path / "nothing"), 2, "cannot be read"),
        (str(tmp_path / "config.toml"), 2, "is not JSON"),
        ("https://emr.example/keys", 1, "jwks_hosts does not name: emr.example"),
    ):
        found = await in_thread(terminal.run, *create, source, **admin)
        assert (found[0], found[1]) == (status, "")
        assert says in found[2]
    made = await in_thread(terminal.json, *create, str(keys), **admin)
    assert made.keys() == {"name", "client_id", "scopes"}
    (tmp_path / "config.toml").write_text('[api]\njwks_hosts = ["emr.example"]')
    change = ("client", "keys", "emr", "--jwks", "https://emr.example/keys", "--as", "admin")
    assert (await in_thread(terminal.run, *change, **admin))[0] == 0
    assert (await in_thread(terminal.run, "client", "disable", "emr", "--as", "admin", **admin))[0] == 0
    [listed] = await in_thread(terminal.json, "client", "list", "--as", "admin", **admin)
    assert (listed["authentication"], listed["jwks_url"]) == ("jwks_url", "https://emr.example/keys")
    assert listed["disabled_at"] is not None


async def test_a_wrong_word_is_one_sentence_and_a_status(terminal: Terminal) -> None:
    await in_thread(set_up, terminal)
    admin = {"PASSWORD": PASSWORD, "NEW_PASSWORD": PASSWORD}
    cases = (
        (("organization", "create", "main"), 1, "already"),
        (("organization", "create", "Two Words"), 1, "the name of an organization"),
        (("user", "create", "vera", "--role", "emperor", "--as", "admin"), 2, "emperor"),
        (("user", "create", "admin", "--role", "viewer", "--as", "admin"), 1, "already"),
        (("client", "create", "emr", "--scope", "everything", "--as", "admin"), 1, "is not a scope"),
        (("user", "list", "--organization", "elsewhere"), 1, "no organization elsewhere"),
    )
    for arguments, expected, says in cases:
        status, out, err = await in_thread(terminal.run, *arguments, **admin)
        assert (status, out) == (expected, ""), arguments
        assert says in err
        assert "Traceback" not in err


async def test_the_owner_lists_every_organization(
    terminal: Terminal, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_thread(set_up, terminal)
    await in_thread(terminal.json, "organization", "create", "annex")
    monkeypatch.setenv("LABORA_DATABASE_URL", owner_of(database_url))
    listed = await in_thread(terminal.json, "organization", "list")
    assert [one["name"] for one in listed] == ["annex", "main"]

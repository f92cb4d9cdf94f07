"""`labora alert` as a person uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.domain.alerts import AlertKind, Subject
from interface.flow import alerting
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization
from tests.ops.receivers import mail_server


@pytest.fixture
async def shell(
    database: Database, shared_database_url: str, organization: Organization, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Shell:  # fmt: skip
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)


async def alert_of(shell: Shell, kind: AlertKind = AlertKind.LINK_DOWN) -> str:
    at = shell.organization.id
    async with shell.laboratory.database.transaction(at) as connection:
        return str(await alerting.enter(connection, at, kind, Subject("link", "hema-1"), "no carrier"))


async def alert_arguments(shell: Shell) -> dict[str, tuple[str, ...]]:
    """For the test that asks every command."""
    id, by = await alert_of(shell), ("--as", "vera")
    quiet = ("alert", "silence", "--for", "2h", "--reason", "because", *by, "--json")
    silence = (await shell.run(*quiet)).json["id"]
    return {
        "alert list": (),
        "alert show": (id,),
        "alert ack": (id, *by),
        "alert silence": ("--for", "2h", "--reason", "because", *by),
        "alert silences": (),
        "alert unsilence": (silence, *by),
    }


async def test_an_alert_is_listed_shown_and_seen_to(shell: Shell) -> None:
    assert (await shell.run("alert", "list")).err.strip() == "nothing is wrong"
    id = await alert_of(shell)
    listed = await shell.run("alert", "list")
    assert (listed.status, "link_down" in listed.out, "no carrier" in listed.out) == (0, True, True)
    assert (await shell.run("alert", "ack", id)).status == 2, "whose eyes?"
    seen = await shell.run("alert", "ack", id, "--comment", "on my way", "--as", "vera", "--json")
    assert (seen.status, seen.json["acknowledged_name"]) == (0, "vera")
    shown = (await shell.run("alert", "show", id, "--json")).json
    assert [one["what"] for one in shown["events"]] == ["entered", "acknowledged"]
    assert "on my way" in (await shell.run("alert", "show", id)).out


async def test_a_silence_is_made_and_ended(shell: Shell) -> None:
    made = await shell.run(
        "alert", "silence", "--kind", "link_down", "--subject", "link hema-1", "--for", "90m", "--reason",
        "the switch is changed", "--as", "vera", "--json",
    )  # fmt: skip
    assert (made.status, made.json["thing"], made.json["subject"]) == (0, "link", "hema-1")
    assert "the switch is changed" in (await shell.run("alert", "silences")).out
    assert (await shell.run("alert", "unsilence", made.json["id"], "--as", "vera")).status == 0
    assert (await shell.run("alert", "silences")).err.strip() == "nothing is silenced"
    for wrong in ((), ("--for", "2 weeks"), ("--for", "2h", "--until", "2100-01-01")):
        assert (await shell.run("alert", "silence", *wrong, "--reason", "x", "--as", "vera")).status == 2


async def test_a_channel_is_tried(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """By whom the roster has, or to the address that is said; what the server says is shown."""
    async with mail_server(tmp_path) as post:
        monkeypatch.setenv("LABORA_ALERT_MAIL", "right")
        roster = tmp_path / "roster.toml"
        roster.write_text(
            '[[person]]\nid = "anna"\ncontact = [{ channel = "mail", to = "anna@lab.example" }]\n'
            '[[shift]]\npeople = ["anna"]\n'
        )
        shell.config.write_text(
            f'{shell.config.read_text()}\n[alerts]\nroster = "{roster}"\n[[alerts.channel]]\nid = "mail"\n'
            f'type = "smtp"\nserver = "{post.address}"\nfrom = "labora@lab.example"\nuser = "labora"\n'
            f'ca = "{post.ca}"\n'
        )
        done = await shell.run("alert", "test", "mail")
        assert (done.status, "queued as 4F1" in done.out, post.got[0]["To"]) == (0, True, "anna@lab.example")
        post.refuse = {"RCPT": "550 5.1.1 no such user"}
        failed = await shell.run("alert", "test", "mail", "--to", "bert@lab.example", "--json")
        assert (failed.status, failed.json[0]["taken"], "(550)" in failed.json[0]["answer"]) == (1, False, True)
        assert "there is no channel" in (await shell.run("alert", "test", "sms")).err

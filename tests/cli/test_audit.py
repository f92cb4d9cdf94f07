"""Every command that reads or changes a laboratory's records leaves an audit row (DESIGN §1.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import click
import pytest

from interface import cli
from interface.store.db import Database
from tests.api.review_use import let_be_calculated
from tests.api.signing import ec_key, public
from tests.cli.desk import PASSWORD, Shell, open_shell
from tests.cli.qc_use import qc_arguments
from tests.cli.records_use import record_arguments
from tests.cli.rules_use import rule_arguments
from tests.cli.test_alert import alert_arguments
from tests.cli.test_review import critical
from tests.cli.test_subscription import stopped
from tests.cluster import owner_of
from tests.conftest import Organization
from tests.records import store_message

WITHOUT_RECORDS = {  # nothing of a laboratory's passes through these
    "run", "backup list", "backup verify", "backup confirm", "check", "demo", "doctor", "decode", "simulate",
    "db upgrade", "db status", "db url", "db maintain",
    "alert test",
    "driver list", "driver diff", "driver new", "driver schema", "driver show", "driver test", "driver vector",
    "backup restore", "backup adopt",  # what they leave in each trail: tests/ops/test_backup_restore.py
    "link doctor", "link list", "link ports", "link status", "link test", "organization list", "result comments",
}  # fmt: skip


WHY = ("--as", "ada", "--reason", "because")


def leaves(command: click.Command, context: click.Context, name: str = "") -> Iterator[str]:
    """The full names of all commands there are."""
    if not isinstance(command, click.Group):
        yield name
        return
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        assert found is not None
        yield from leaves(found, click.Context(found, info_name=child, parent=context), f"{name} {child}".strip())


COMMANDS = sorted(set(leaves(cli.labora, click.Context(cli.labora))) - WITHOUT_RECORDS)


async def reviewing(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """A step of reviewing, or of telling a critical result, with something it can be taken with."""
    made = [UUID(int=0)] * 2
    if name.startswith("critical"):
        made = list(map(UUID, await critical(shell)))
    elif name.startswith("result"):
        made[0] = await shell.laboratory.result(await shell.laboratory.order())
        if name == "result recalculate":
            await let_be_calculated(shell.laboratory, made[0])
    result, task = str(made[0]), str(made[1])
    by, why = ("--as", "vera"), ("--comment", "because", "--as", "vera")
    if name.endswith("-change") or name == "result retract":
        await shell.run("result", "release", result, *by)
        if name.endswith("-change"):
            await shell.laboratory.change(made[0], "9.1", version=3)
    if name == "critical close":
        await shell.run("critical", "notify", task, "--person", "ward 3b", "--read-back", *by)
    if name == "critical withdraw":
        await shell.run("result", "reject", result, *why)
    return {
        "result policy": (),
        **{f"result {step}": (result, *by) for step in ("verify", "release", "rerun", "recalculate")},
        **{f"result {step}": (result, *why) for step in ("reject", "hold", "comment", "retract")},
        **{f"result {step}-change": (result, *why) for step in ("accept", "reject")},
        "result correct": (result, "--value", "9.1", *why),
        "critical list": (),
        "critical show": (task,),
        "critical attempt": (task, "--obstacle", "busy", *by),
        "critical notify": (task, "--person", "ward 3b", "--read-back", *by),
        "critical close": (task, *by),
        "critical withdraw": (task, *why),
    }


async def subscription_arguments(shell: Shell) -> dict[str, tuple[str, ...]]:
    id, by = str(await stopped(shell)), ("--as", "ada")
    return {
        "subscription list": (),
        "subscription show": (id,),
        "subscription resume": (id, *by),
        "subscription off": (id, "--reason", "because", *by),
    }


def admin_arguments(folder: Path) -> dict[str, tuple[str, ...]]:
    """Users, clients, and the audit itself."""
    by = ("--as", "ada")
    return {
        "user create": ("new", "--role", "technologist", *by),
        "user list": by,
        "user disable": ("vera", *by),
        "user password": ("vera", *by),
        "client create": ("emr", "--scope", "system/Patient.r", *by),
        "client list": by,
        "client keys": ("emr", "--jwks", str(folder / "keys.json"), *by),
        "client disable": ("emr", *by),
        "audit list": by,
        "audit verify": by,
        "audit head": by,
    }


def map_arguments(folder: Path) -> dict[str, tuple[str, ...]]:
    return {
        "map list": (),
        "map history": (),
        "map export": (),
        "map unmapped": (),
        "map suggest": (),
        "map lint": (),
        "map coverage": (),
        "map set": ("Y", "HGB", "--link", "hema-1", *WHY),
        "map unset": ("X", "--link", "hema-1", *WHY),
        "map copy": ("hema-1", "generic_lis2", *WHY),
        "map undo": ("1", *WHY),
        "map import": (str(folder / "codes.csv"), "--yes", *WHY),
        "map apply": (str(folder / "plan"), "--yes", *WHY),
    }


async def work_arguments(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    """Messages, results, orders and reports of a laboratory that has one of each."""
    of = await shell.laboratory.order()
    result_id = str(await shell.laboratory.result(of))
    message_id = str(await store_message(shell.laboratory, (1, b"\x021H|\\^&\r\x0300\r\n")))
    if name == "report order":  # there is one from the first release on
        assert (await shell.run("result", "release", result_id, "--as", "vera")).status == 0
    return {
        "link wire": ("hema-1", "--as", "vera"),
        "message list": (),
        "message show": (message_id, "--as", "vera"),
        "message validate": (message_id, "--as", "vera"),
        "message replay": ("--unmapped", "X", "--yes", "--as", "vera"),
        "result list": (),
        "result show": (result_id,),
        **await reviewing(shell, name),
        "order create": ("--test", "HGB", "--family", "Muster", "--as", "vera"),
        "order list": (),
        "order show": (of.number,),
        "trace": (of.items[0].barcode,),
        "report order": (of.number, "--output", str(folder / "report.pdf")),
        "report settings": ("--phone", "1", "--as", "ada"),
        "report target": ("ordered-released=60", "--as", "ada"),
        "report workload": (),
        "report turnaround": (),
        "report qc": ("--month", "2026-01"),
    }


async def prepare(shell: Shell, name: str, folder: Path) -> str:
    """What must have been done before a command of those about maps, clients and holds; the hold."""
    if name.startswith("map"):
        assert (await shell.run("map", "set", "X", "HGB", "--link", "hema-1", *WHY)).status == 0
        (folder / "codes.csv").write_text("link,code,test\nhema-1,Z,WBC\n")
        (folder / "plan").mkdir()
        (folder / "plan" / "codes.csv").write_text("link,code,test\nhema-1,Z,WBC\n")
    if name in ("client keys", "client disable"):
        (folder / "keys.json").write_text(json.dumps({"keys": [public(ec_key(), "1")]}))
        assert (await shell.run("client", "create", "emr", "--scope", "system/Patient.r", "--as", "ada")).status == 0
    return (await shell.run("db", "hold", "add", *WHY)).out.strip() if name == "db hold remove" else ""


async def arguments_of(shell: Shell, name: str, folder: Path) -> tuple[str, ...]:
    """Something that this command can be run with."""
    if name.startswith("rule "):
        return await rule_arguments(shell, name, folder)
    if name.startswith("subscription "):
        return (await subscription_arguments(shell))[name]
    if name.startswith("alert "):
        return (await alert_arguments(shell))[name]
    hold = await prepare(shell, name, folder)
    made = await qc_arguments(shell, name, folder) or await record_arguments(shell, name)
    own = {
        "backup create": (), "db hold add": WHY, "db hold remove": (hold, *WHY), "db hold list": (),
        "organization create": (f"o-{shell.organization.name}"[:60],),
        **admin_arguments(folder), **map_arguments(folder),
    }  # fmt: skip
    return made[name] if made else own[name] if name in own else (await work_arguments(shell, name, folder))[name]


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_about_records_is_in_the_audit(
    name: str,
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell = await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("LABORA_NEW_PASSWORD", PASSWORD + " 2")
    arguments = await arguments_of(shell, name, tmp_path)
    if name == "backup create":  # which sees every laboratory's rows
        monkeypatch.setenv("LABORA_DATABASE_URL", owner_of(shared_database_url))
    where = "action <> 'login'"
    before = await shell.laboratory.count("audit_event", where)
    answer = await shell.run(*name.split(), *arguments)
    assert answer.status == 0 or name == "message validate", answer.err  # whose message is not HL7
    if name == "organization create":
        made = await database.find_organization(arguments[0]) or organization.id
        async with database.transaction(made) as other:
            assert await other.fetchval("select count(*) from lab.audit_event") == 1
        return
    assert await shell.laboratory.count("audit_event", where) > before, "nothing in the audit says that this was done"

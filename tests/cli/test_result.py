from __future__ import annotations

from pathlib import Path

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.flow import actors
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cli.desk import PASSWORD, Shell, open_shell
from tests.conftest import Organization

HELD = (HoldReason.QUESTIONABLE,)


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)


async def test_held_results_are_listed_with_their_reason(shell: Shell) -> None:
    of = await shell.laboratory.order()
    await shell.laboratory.result(of)
    held = await shell.laboratory.result(of, status=ResultStatus.REGISTERED, held=HELD)
    listed = (await shell.run("result", "list", "--held", "--json")).json
    assert [(one["id"], one["held"]) for one in listed] == [(str(held), ["questionable"])]
    text = (await shell.run("result", "list", "--held")).out
    assert "questionable" in text
    assert len((await shell.run("result", "list", "--json")).json) == 2


async def test_a_list_is_filtered(shell: Shell) -> None:
    of = await shell.laboratory.order()
    await shell.laboratory.result(of)
    for filter in (
        ("--specimen", of.items[0].barcode),
        ("--test", "HGB"),
        ("--status", "preliminary"),
        ("--order", str(of.id)),
        ("--patient", str(of.patient_id)),
        ("--since", "2020-01-01"),
    ):
        assert len((await shell.run("result", "list", "--json", *filter)).json) == 1, filter
    for filter in (("--specimen", "X"), ("--test", "WBC"), ("--status", "final"), ("--until", "2020-01-01")):
        answer = await shell.run("result", "list", *filter)
        assert (answer.status, answer.out, answer.err) == (0, "", "no results\n"), filter


async def test_who_reads_is_audited_by_name_or_as_the_command_line(shell: Shell) -> None:
    of = await shell.laboratory.order()
    result_id = await shell.laboratory.result(of)
    assert (await shell.run("result", "list")).status == 0
    assert (await shell.run("result", "show", str(result_id), "--as", "vera")).status == 0
    count = shell.laboratory.count
    assert await count("audit_event", "action = 'search' and actor_kind = 'setup' and actor_name = 'command line'") == 1
    assert await count("audit_event", "action = 'read' and actor_name = 'vera' and entity_id = $1", result_id) == 1
    assert await count("audit_event", "action = 'disclose' and entity_id = $1", of.patient_id) == 2


async def test_a_result_is_shown_exactly_and_with_its_history(shell: Shell) -> None:
    result_id = str(await shell.laboratory.result(await shell.laboratory.order(), "13.50"))
    shown = (await shell.run("result", "show", result_id, "--json")).json
    assert (shown["value"], shown["number"], shown["status"]) == ("13.50", "13.50", "preliminary")
    assert (await shell.run("result", "release", result_id, "--as", "vera")).status == 0
    history = (await shell.run("result", "show", result_id, "--history", "--json")).json
    assert [one["status"] for one in history] == ["preliminary", "final"]
    assert (await shell.run("result", "show", result_id, "--json")).json["status"] == "final"
    unknown = await shell.run("result", "show", str(uuid7()))
    assert (unknown.status, unknown.out, unknown.err) == (1, "", "labora: there is no such result\n")


async def test_a_release_needs_a_user_the_right_password_and_the_permission(shell: Shell) -> None:
    result_id = str(await shell.laboratory.result(await shell.laboratory.order()))
    assert (await shell.run("result", "release", result_id)).status == 2
    wrong = await shell.run("result", "release", result_id, "--as", "vera", password="wrong password")
    assert (wrong.status, wrong.out) == (1, "")
    assert "wrong" in wrong.err
    administrator = await shell.run("result", "release", result_id, "--as", "ada")
    assert administrator.status == 1
    assert "result:release" in administrator.err
    assert await shell.laboratory.count("result_version", "true") == 1


async def test_several_results_are_released_each_for_itself(shell: Shell) -> None:
    good = str(await shell.laboratory.result(await shell.laboratory.order()))
    held = str(await shell.laboratory.result(await shell.laboratory.order(), held=HELD))
    answer = await shell.run("result", "release", good, held, "--as", "vera", "--json")
    assert answer.status == 1
    assert [(one["id"], one["status"]) for one in answer.json] == [(good, "final")]
    assert answer.err == f"labora: {held}: the result is held (questionable); releasing it must accept this\n"
    accepted = ("result", "release", held, "--as", "vera", "--accept-hold", "--comment", "seen", "--json")
    assert [one["note"] for one in (await shell.run(*accepted)).json] == ["seen"]
    again = await shell.run("result", "release", good, "--as", "vera")
    assert (again.status, again.err) == (0, f"{good} was released already\n")


async def test_a_token_stands_for_its_user_in_its_own_laboratory(
    shell: Shell, database: Database, other_organization: Organization
) -> None:
    result_id = str(await shell.laboratory.result(await shell.laboratory.order()))
    issued = await actors.login(database, shell.organization.name, "vera", PASSWORD, 60)
    shell.environment.setenv("LABORA_TOKEN", issued.token)
    assert (await shell.run("result", "release", result_id, "--as", "ada", password=None)).status == 1
    elsewhere = ("result", "release", result_id, "--organization", other_organization.name)
    assert "another laboratory" in (await shell.run(*elsewhere, password=None)).err
    assert (await shell.run("result", "release", result_id, password=None)).status == 0
    shell.environment.setenv("LABORA_TOKEN", issued.token + "x")
    assert (await shell.run("result", "release", result_id, password=None)).status == 1


async def test_an_unknown_laboratory_and_a_wrong_id_are_one_sentence(shell: Shell) -> None:
    unknown = await shell.run("result", "list", "--organization", "nowhere")
    assert (unknown.status, unknown.err) == (1, "labora: there is no organization nowhere\n")
    assert (await shell.run("result", "show", "not-an-id")).status == 2


async def test_an_unreachable_database_is_one_sentence(shell: Shell) -> None:
    shell.environment.setenv("LABORA_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    shell.environment.setattr("interface.store.embedded.START_WAIT_S", 0.1)  # in which one that starts may come
    answer = await shell.run("result", "list")
    assert answer.status in (1, 78)
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1

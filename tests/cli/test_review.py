"""`labora result` and `labora critical` as technologists use them; every command of docs/review.md is run here."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from interface.cli.result_words import age
from interface.domain.model import HoldReason, ResultStatus, ValueKind
from interface.flow.criticals import open_for
from interface.store.actors import insert_user
from interface.store.criticals import Judged
from interface.store.db import Database
from tests.cli.desk import PASSWORD, Answer, Shell, open_shell
from tests.conftest import Organization
from tests.records import order as placed

DOCS = Path(__file__).parents[2] / "docs" / "review.md"
DELTA = (HoldReason.DELTA, HoldReason.RULE)


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    made = await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)
    async with database.transaction(organization.id) as connection:
        digest = await connection.fetchval("select password_hash from lab.app_user where username = 'vera'")
        for name, role in (("otto", "technologist"), ("dora", "laboratory_director")):
            await insert_user(connection, organization.id, name, "", digest, (role,))
    return made


async def result(shell: Shell, value: str = "13.5", held: tuple[HoldReason, ...] = (), stat: bool = False) -> str:
    order = await shell.laboratory.order()
    status = ResultStatus.REGISTERED if held else ResultStatus.PRELIMINARY
    made = await shell.laboratory.result(order, value, status=status, held=held)
    if stat:
        async with shell.laboratory.database.transaction(shell.organization.id) as connection:
            await connection.execute("update lab.lab_order set priority = 'stat', ward = '3b' where id = $1", order.id)
    return str(made)


async def critical(shell: Shell, value: str = "2.1") -> tuple[str, str]:
    """A critical result: its id and its task's."""
    made = UUID(await result(shell, value, stat=True))
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        version_id = await connection.fetchval("select version_id from lab.result where id = $1", made)
        await open_for(connection, shell.laboratory.technologist, [Judged(made, version_id, critical=True, fresh=True)])
        task = await connection.fetchval("select id from lab.critical_notification where result_id = $1", made)
    return str(made), str(task)


async def as_user(shell: Shell, user: str, *arguments: str) -> Answer:
    answer = await shell.run(*arguments, "--as", user)
    assert answer.status == 0, answer.err
    return answer


async def test_a_queue_shows_what_is_wrong_at_a_glance(shell: Shell) -> None:
    await result(shell, "13.5")
    held = await result(shell, "3.1", DELTA)
    urgent = await result(shell, "2.1", (HoldReason.DELTA,), stat=True)
    answer = await shell.run("result", "list", "--queue", "all")
    head, first, second, last = answer.out.splitlines()
    assert re.split(r"\s{2,}", head) == [
        "prio", "waits", "specimen", "patient", "ward", "test", "result", "flag", "reference", "why it waits",
        "id:version",
    ]  # fmt: skip
    assert first.startswith("STAT     0:00") and "3b" in first and first.endswith(f"{urgent}:1")
    assert "to be released" in second
    assert "delta, rule" in last and last.endswith(f"{held}:1")
    assert answer.err == "3 wait: delta 2, nothing holds it 1, rule 1\n"
    for words, shown in (
        (("--reason", "rule"), [held]), (("--priority", "stat"), [urgent]), (("--ward", "3b"), [urgent]),
        (("--queue", "held"), [urgent, held]), (("--older-than", "1"), []), (("--analyzer", "other"), []),
    ):  # fmt: skip
        found = (await shell.run("result", "list", *words, "--json")).json
        assert [row["id"] for row in found] == shown, words
    nothing = await shell.run("result", "list", "--queue", "changed")
    assert (nothing.status, nothing.out, nothing.err) == (0, "", "nothing waits\n")
    assert (await shell.run("result", "list", "--queue", "all", "--held")).status == 2
    assert (await shell.run("result", "list", "--reason", "rule", "--status", "final")).status == 2


async def test_what_has_changed_since_the_queue_was_read_is_not_released(shell: Shell) -> None:
    """A queue did not say which version it showed, and of several that were released together none could be named."""
    same, other = await result(shell, "13.5"), await result(shell, "11.2")
    lines = (await shell.run("result", "list", "--queue", "all")).out.splitlines()[1:]
    named = [line.split()[-1] for line in lines]
    assert sorted(named) == sorted([f"{same}:1", f"{other}:1"])
    await as_user(shell, "otto", "result", "correct", other, "--value", "17.9", "--comment", "another tube")
    answer = await shell.run("result", "release", *named, "--as", "vera")
    assert answer.status == 1
    assert f"{other}: the result has changed: version 1 was looked at, it is now version 2" in answer.err
    shown = (await shell.run("result", "show", f"{other}:1", "--json")).json
    assert (shown["status"], (await shell.run("result", "show", same, "--json")).json["status"]) == (
        "preliminary", "final",
    )  # fmt: skip
    for wrong in (f"{other}:0", f"{other}:x", f"{other}:", "x:1"):
        assert (await shell.run("result", "release", wrong, "--as", "vera")).status == 2
    for twice in ((f"{other}:1", f"{other}:2"), (f"{other}:1", "--version", "2"), (other, same, "--version", "1")):
        assert (await shell.run("result", "release", *twice, "--as", "vera")).status == 2


async def test_what_a_change_replaces_has_its_sign_once(shell: Shell) -> None:
    """A number has it beside it, a titre in its text."""
    for value, kind in (("5", ValueKind.NUMERIC), ("<1:10", ValueKind.RATIO)):
        order, status = await shell.laboratory.order(), ResultStatus.FINAL
        made = await shell.laboratory.result(order, value, status=status, kind=kind, comparator="<")
        await shell.laboratory.change(made, "9")
    found = (await shell.run("result", "list", "--queue", "changed", "--json")).json
    assert sorted(row["reported"] for row in found) == ["<1:10 g/dL", "<5 g/dL"]


async def test_critical_results_are_listed_with_what_is_overdue(shell: Shell) -> None:
    _, task = await critical(shell)
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await connection.execute(
            "update lab.critical_notification set escalate_at = array[now() - interval '1 min', now()] where id = $1",
            UUID(task),
        )
    answer = await shell.run("critical", "list", "--overdue")
    head, line = answer.out.splitlines()
    assert head.split()[:3] == ["prio", "open", "overdue"]
    for words in ("STAT", "!!", "nobody called", "Muster, Eva", "3b", "HGB", "2.1 g/dL", "is critical", task):
        assert words in line, words
    assert await as_user(shell, "vera", "critical", "attempt", task, "--obstacle", "busy")
    assert "1 x not reached" in (await shell.run("critical", "list")).out
    assert await as_user(shell, "vera", "critical", "notify", task, "--person", "ward 3b", "--not-read-back")
    assert "told, not read back" in (await shell.run("critical", "list")).out
    early = await shell.run("critical", "close", task, "--as", "vera")
    assert (early.status, early.out) == (1, "")
    assert "not read back" in early.err
    assert await as_user(shell, "vera", "critical", "notify", task, "--person", "Dr Weber", "--read-back")
    assert "to be closed" in (await shell.run("critical", "list")).out
    assert await as_user(shell, "otto", "critical", "close", task)
    assert (await shell.run("critical", "list")).err == "nobody is to be told anything\n"
    shown = (await shell.run("critical", "show", task, "--json")).json
    assert [event["what"] for event in shown["events"]] == ["opened", "attempted", "notified", "notified", "closed"]
    assert (await shell.run("critical", "notify", task, "--person", "x", "--read-back")).status == 2, "who does it?"
    assert (await shell.run("critical", "close", task, "--as", "ada")).status == 0, "closed is closed"


async def test_that_there_are_more_critical_results_is_said(shell: Shell) -> None:
    for _ in range(2):
        await critical(shell)
    answer = await shell.run("critical", "list", "--limit", "1")
    assert (len(answer.out.splitlines()), answer.err) == (2, "the first 1; --limit shows more\n")
    assert (await shell.run("critical", "list", "--limit", "2")).err == ""


async def test_all_or_none(shell: Shell) -> None:
    good, held = await result(shell), await result(shell, held=(HoldReason.QC_FAILED,))
    answer = await shell.run("result", "release", good, held, "--all-or-none", "--as", "vera", "--json")
    assert (answer.status, answer.json) == (1, [])
    assert "qc_failed" in answer.err and answer.err.endswith("labora: nothing was done\n")
    assert (await shell.run("result", "show", good, "--json")).json["status"] == "preliminary"


async def test_what_is_released_together_is_named_in_any_order(shell: Shell) -> None:
    """What is calculated goes out after what it is calculated from, whichever is named first; by itself it does not."""
    order = await shell.laboratory.order(placed("HGB", "WBC"))
    of = replace(order, items=order.items[1:])
    measured = str(await shell.laboratory.result(order))
    calculated = str(await shell.laboratory.result(of, "40.5", calculated={"HGB": "13.5"}))
    alone = await shell.run("result", "release", calculated, "--as", "vera")
    assert (alone.status, "calculated from HGB, which is not released" in alone.err) == (1, True)
    done = await as_user(shell, "vera", "result", "release", calculated, measured, "--json")
    assert [(one["id"], one["status"]) for one in done.json] == [(measured, "final"), (calculated, "final")]


async def test_a_rerun_of_what_is_released_is_said_to_be_asked_for(shell: Shell) -> None:
    """Its version stays, and it was said that nothing had happened."""
    one = await result(shell)
    await as_user(shell, "vera", "result", "release", one)
    assert (await as_user(shell, "vera", "result", "rerun", one)).err == f"another run of {one} is asked for\n"
    assert (await as_user(shell, "vera", "result", "release", one)).err == f"{one} was released already\n"


async def test_the_policy_is_shown_and_set_by_the_director(shell: Shell) -> None:
    assert "the default" in (await shell.run("result", "policy")).err
    assert (await shell.run("result", "policy", "--people", "2", "--as", "vera")).status == 1
    await as_user(shell, "dora", "result", "policy", "--people", "2", "--critical-minutes", "10,20")
    await as_user(shell, "dora", "result", "policy", "--test", "HGB", "--people", "1")
    assert (await shell.run("result", "policy", "--json")).json == [
        {"test": "", "two_steps": True, "critical_minutes": [10, 20]},
        {"test": "HGB", "two_steps": False, "critical_minutes": None},
    ]
    await as_user(shell, "dora", "result", "policy", "--unset")
    assert (await shell.run("result", "policy", "--json")).json[0] == {
        "test": "", "two_steps": None, "critical_minutes": None,
    }  # fmt: skip
    assert (await shell.run("result", "policy", "--critical-minutes", "soon", "--as", "dora")).status == 2


async def test_who_says_one_thing_of_the_policy_leaves_the_other(shell: Shell) -> None:
    """Other minutes are no word that one person is enough, nor two people a word about the minutes."""
    await as_user(shell, "dora", "result", "policy", "--people", "2")
    await as_user(shell, "dora", "result", "policy", "--critical-minutes", "5,10")
    await as_user(shell, "dora", "result", "policy", "--test", "HGB", "--critical-minutes", "20")
    answer = await as_user(shell, "dora", "result", "policy", "--test", "HGB", "--people", "1", "--json")
    assert answer.json == [
        {"test": "", "two_steps": True, "critical_minutes": [5, 10]},
        {"test": "HGB", "two_steps": False, "critical_minutes": [20]},
    ]
    assert (await shell.run("result", "policy", "--test", "NONE", "--people", "1", "--as", "dora")).status == 1


def test_an_age_is_read_at_once() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    told = [age(now, now - timedelta(minutes=minutes)) for minutes in (-5, 0, 7, 65, 2879, 2880, 10000)]
    assert told == ["0:00", "0:00", "0:07", "1:05", "47:59", "2 d", "6 d"]


async def test_every_command_of_the_manual_does_what_it_says(shell: Shell) -> None:
    """The blocks of docs/review.md in their order, each name in capitals a result or a task of its own."""
    names = {
        "FIRST": await result(shell), "SECOND": await result(shell), "THIRD": await result(shell, held=DELTA),
        "FOURTH": await result(shell), "FIFTH": await result(shell), "SIXTH": await result(shell),
        "SEVENTH": await result(shell),
    }  # fmt: skip
    names["EIGHTH"], names["TASK"] = await critical(shell)
    released = str(await shell.laboratory.result(await shell.laboratory.order()))
    names["CHANGED"] = released
    await as_user(shell, "vera", "result", "release", released)
    await shell.laboratory.change(UUID(released), "9.1", version=3)
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("labora ")]
    assert len(commands) > 15
    for command in commands:
        words = [names.get(word, word) for word in shlex.split(command, comments=True)[1:]]
        answer = await shell.run(*words)
        assert answer.status == 0, (command, answer.err)
    history = (await shell.run("result", "show", names["FIFTH"], "--history", "--json")).json
    assert [one["status"] for one in history] == ["preliminary", "final", "amended", "corrected", "entered-in-error"]
    assert (await shell.run("critical", "show", names["TASK"], "--json")).json["critical"]["state"] == "closed"
    assert PASSWORD

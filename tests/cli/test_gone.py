"""Who was disabled, or whose token was ended, while a command waited for their answer or went on for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interface.flow import actors, replay
from tests.cli.desk import PASSWORD
from tests.cli.workbench import Workbench

DRIVER = ("--driver", "generic_lis2")


class Terminal:
    """Somebody sits at it."""

    def isatty(self) -> bool:
        return True


def answering(bench: Workbench, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Who is asked says yes, when somebody else has done that."""
    loop = asyncio.get_running_loop()

    def confirm(*_: object, **__: object) -> bool:
        asyncio.run_coroutine_threadsafe(bench.laboratory.owner.execute(statement), loop).result(30)
        return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.confirm", confirm)


DISABLED = "update lab.app_user set disabled_at = now() where username = '{}'"


async def test_who_was_disabled_at_the_question_changes_no_map(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bench.file("own.csv", "driver,code,test\ngeneric_lis2,A1,GLU\n")
    answering(bench, monkeypatch, DISABLED.format("ada"))
    answer = await bench.run("map", "import", file, "--as", "ada", "--reason", "because")
    assert (answer.status, await bench.changes()) == (1, 0), answer.err
    assert "your account has been disabled" in answer.err


async def test_who_was_disabled_at_the_question_decides_no_results_anew(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    answering(bench, monkeypatch, DISABLED.format("vera"))
    answer = await bench.run("message", "replay", "--unmapped", "687", "--as", "vera")
    assert [one.test_code for one in await bench.laboratory.results()] == [""], answer.err
    assert answer.status == 1
    assert "your account has been disabled" in answer.err


async def test_nor_does_whose_token_was_ended(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    lab = bench.laboratory
    issued = await actors.login(lab.database, lab.context.settings.organization, "vera", PASSWORD, 600)
    monkeypatch.setenv("LABORA_TOKEN", issued.token)
    answering(bench, monkeypatch, "update lab.access_token set revoked_at = now()")
    answer = await bench.run("message", "replay", "--unmapped", "687")
    assert [one.test_code for one in await lab.results()] == [""], answer.err
    assert answer.status == 1
    assert "LABORA_TOKEN" in answer.err


async def test_what_was_decided_until_then_is_said_and_stands_in_the_audit(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token ends in the middle of some thousands: nothing said that some had been decided, and of whom."""
    for barcode in ("S1", "S2"):
        await bench.order(barcode, "SER", "AST")
        await bench.receive(barcode, "687|31|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    owner, decide, loop = bench.laboratory.owner, replay.replay, asyncio.get_running_loop()

    async def decided(*arguments: Any, **named: Any) -> replay.Replayed:
        done = await decide(*arguments, **named)
        if not named["dry_run"]:
            disabling = owner.execute(DISABLED.format("vera"))
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(disabling, loop))
        return done

    monkeypatch.setattr(replay, "replay", decided)
    answer = await bench.run("message", "replay", "--unmapped", "687", "--as", "vera", "--yes")
    assert sorted(one.test_code for one in await bench.laboratory.results()) == ["", "AST"]
    assert answer.status == 1
    assert "disabled; nothing more is done; 1 of 2 messages were decided anew until then" in answer.err, answer.err
    of = "select count(*) from lab.audit_event where action = 'disclose' and detail->>'by' = 'replay result'"
    assert await owner.fetchval(of) == 1

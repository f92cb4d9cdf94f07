"""`labora qc status`, `action`, `lookback`, `plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interface.domain.model import ResultStatus
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.cli.qc_use import DORA, VERA, add_director
from tests.conftest import Organization
from tests.qc_failing import looked_back_at


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
    await add_director(made)
    return made


async def test_a_failure_from_what_is_due_to_the_closed_list(shell: Shell) -> None:
    result_id = await shell.laboratory.result(await shell.laboratory.order(), status=ResultStatus.FINAL)
    list_id = str(await looked_back_at(shell.laboratory, result_id))
    (due,) = json.loads((await shell.run("qc", "status", "--due", "--json")).out)
    assert (due["state"], due["due"], due["action_due"]) == ("fail", "overdue", True)
    where = (due["test"], "probe replaced", "--analyzer", due["analyzer"])
    refused = await shell.run("qc", "action", "add", *where, *VERA)
    assert (refused.status, "stands, or again" in refused.err) == (1, True)
    done = await shell.run("qc", "action", "add", *where, "--meanwhile", "again", *VERA, "--json")
    assert json.loads(done.out)[0]["state"] == "fail"  # a control is still wanted
    (said,) = json.loads((await shell.run("qc", "action", "list", "--json")).out)
    assert (said["text"], said["meanwhile"], said["by"]) == ("probe replaced", "again", "vera")
    decided = await shell.run("qc", "lookback", "decide", list_id, "stands", "--reason", "compared", *VERA, "--json")
    assert [(one["state"], one["decided_by"]) for one in json.loads(decided.out)["items"]] == [("stands", "vera")]
    shown = await shell.run("qc", "lookback", "show", list_id)
    assert str(result_id) in shown.out


async def test_a_plan_is_the_directors(shell: Shell) -> None:
    assert "every 24 hours" in (await shell.run("qc", "plan", "list")).err
    refused = await shell.run("qc", "plan", "set", "--test", "HGB", *VERA)
    assert (refused.status, "qc:manage" in refused.err) == (1, True)
    assert (await shell.run("qc", "plan", "set", "--test", "HGB", "--timezone", "Nowhere", *DORA)).status == 1
    made = await shell.run("qc", "plan", "set", "--test", "HGB", "--rule", "1-3s", "--every", "0", *DORA, "--json")
    (plan,) = json.loads(made.out)
    assert (plan["test"], plan["rules"], plan["interval_minutes"], plan["version"]) == ("HGB", ["1-3s"], None, 1)
    assert (await shell.run("qc", "plan", "end", "--test", "HGB", *DORA)).status == 0
    assert (await shell.run("qc", "plan", "end", "--test", "HGB", *DORA)).status == 1

"""`labora qc pbrtqc` as a person uses it, and as docs/qc.md says."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from pathlib import Path

import pytest

from interface.store.db import Database
from tests.api.pbrtqc_use import alarm
from tests.cli.desk import Shell, open_shell
from tests.cli.pbrtqc_use import METHOD, PERIOD, PLAN, TRAINING, WHY
from tests.cli.qc_use import add_director
from tests.conftest import Organization
from tests.flow.patients import BEGIN, Patients, healthy

GUIDE = (Path(__file__).parents[2] / "docs" / "qc.md").read_text()
SECTION = GUIDE.partition("\n## Quality control by the patients' results\n")[2].partition("\n## ")[0]


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


async def test_the_guide_does_what_it_says(shell: Shell) -> None:
    """Each command is run, and each line that stands below it is in what it says, but for the width of its gaps."""
    patients = Patients(shell.laboratory)
    await patients.measure(healthy(90, 30))
    asked = re.findall(r"^\$ labora ((?:.*\\\n)*.*)\n((?:[^$`].*\n)*)", SECTION, re.MULTILINE)
    assert len(asked) >= 8
    event = ""
    for command, said in asked:
        words = shlex.split(command.replace("\\\n", " ").replace("ALARM", event))
        answer = await shell.run(*words)
        assert answer.status == 0, (command, answer.err)
        told = " ".join((answer.out + answer.err).split())
        for line in said.splitlines():
            assert " ".join(line.split()) in told, (command, answer.out, answer.err)
        if "activate" in words:
            used = await shell.run("qc", "pbrtqc", "list", "--json")
            event = str(await alarm(patients, datetime.fromisoformat(used.json[0]["since"])))


async def test_a_validation_that_misses_a_goal_fails_the_command(shell: Shell) -> None:
    await Patients(shell.laboratory).measure(healthy(20, 24))
    hard = ("--goal", "tiny 0.1% median=1", "--most-false-alarms", "5", "--horizon", "100")
    made = await shell.run("qc", "pbrtqc", "plan", "hgb", *METHOD, *TRAINING, *hard, *WHY)
    assert made.status == 0 and made.out.strip() == "hgb@1" and "is written: limits" in made.err
    answer = await shell.run("qc", "pbrtqc", "validate", "hgb@1", *PERIOD, "--as", "dora", "--json")
    assert answer.status == 1 and answer.json["met"] is False and answer.json["kept"] is True
    assert "not met: goal tiny: -0.1%: median" in answer.err
    refused = await shell.run("qc", "pbrtqc", "activate", "hgb@1", "--mode", "warn", *WHY)
    assert refused.status == 1 and "may not warn: its validation did not meet" in refused.err
    tried = await shell.run("qc", "pbrtqc", "simulate", "hgb", *PERIOD, "--bias", "1SD", "--seed", "7")
    assert tried.status == 0 and "+1SD" in tried.out and "not met" not in tried.err
    shown = await shell.run("qc", "pbrtqc", "show", "hgb@1")
    assert shown.status == 0 and "limits low" in shown.out and "validation unmet" in shown.out


async def test_limits_by_hand_and_every_option(shell: Shell) -> None:
    made = await shell.run(
        "qc", "pbrtqc", "plan", "glu.night", "--analyzer", "hema", "--module", "m1", "--test", "GLU", "--statistic",
        "ewma", "--weight", "0.05", "--block", "10", "--outlying", "winsorise", "--low", "3", "--high", "8", "--boxcox",
        "-0.5", "--restart-after", "240", "--limits", "1.0", "1.1", "1.2", "--exclude-ward", "dialysis",
        "--exclude-group", "neonate", "--exclude-group", "research", "--day-begins", "360", *WHY, "--json",
    )  # fmt: skip
    assert made.status == 0, made.err
    whole = (await shell.run("qc", "pbrtqc", "show", "glu.night", "--json")).json["plan"]
    assert whole["method"] == {
        "statistic": "ewma", "block": 10, "weight": "0.05", "outlying": "winsorise", "low": "3", "high": "8",
        "boxcox": "-0.5", "restart_after_min": 240,
    }  # fmt: skip
    assert whole["limits"] == {"low": "1.0", "centre": "1.1", "high": "1.2", "sd": None}
    assert whole["excluded_groups"] == ["neonate", "research"] and whole["day_begins_min"] == 360


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("plan", *PLAN[:-2], "--reason", "r"), 1, "too little"),
        (("plan", "hgb", *METHOD, "--goal", "tea", *WHY), 2, "is not a bias such as"),
        (("plan", "hgb", *METHOD, *WHY), 1, "limits want a training period"),
        (("plan", "hgb", *METHOD, "--as", "vera", "--reason", "r"), 1, "permission qc:manage"),
        (("plan", "hgb", *METHOD, "--reason", "r"), 2, "say who does it"),
        (("show", "hgb@x"), 2, "is not NAME or NAME@REVISION"),
        (("show", "hgb"), 1, "there is no plan hgb"),
        (("validate", "hgb", *PERIOD, "--as", "dora"), 2, "say which revision: hgb@NUMBER"),
        (("activate", "hgb@1", *WHY), 1, "there is no plan hgb@1"),
        (("deactivate", "hgb", *WHY), 1, "there is no plan hgb"),
        (("simulate", "hgb", *PERIOD, "--bias", "ten"), 2, "is not a bias such as"),
        (("close", "00000000-0000-7000-8000-000000000000", *WHY), 1, "there is no such alarm"),
        (("close", "00000000-0000-7000-8000-000000000000", "--as", "ada", "--reason", "r"), 1, "permission qc:write"),
    ],
)
async def test_what_is_refused(shell: Shell, arguments: tuple[str, ...], status: int, said: str) -> None:
    answer = await shell.run("qc", "pbrtqc", *arguments)
    assert (answer.status, answer.out) == (status, "")
    assert said in answer.err


async def test_reading_needs_its_permission(shell: Shell) -> None:
    assert BEGIN.tzinfo is not None
    for command in ("list", "status", "alarms"):
        answer = await shell.run("qc", "pbrtqc", command, "--as", "vera")
        assert answer.status == 0 and answer.out == "" and "no " in answer.err

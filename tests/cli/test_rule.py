"""`labora rule`: docs/rules.md as a person follows it, and what each command refuses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from interface.domain.permissions import Role
from interface.domain.predicates import PREDICATES
from interface.store.actors import insert_user
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cli.desk import Shell, _digest, open_shell
from tests.conftest import Organization

GUIDE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """With `dora`, the director, beside `vera` and `ada`."""
    made = await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    async with database.transaction(organization.id) as connection:
        await insert_user(connection, organization.id, "dora", "", _digest[0], (Role.LABORATORY_DIRECTOR.value,))
        await connection.executemany(
            "insert into lab.test (id, organization_id, code, name, unit, decimals) values ($1, $2, $3, $3, $4, 1)"
            " on conflict do nothing",
            [(uuid7(), organization.id, "K", "mmol/L")],
        )
    for name, text in re.findall(r"`(\w+\.toml)`:\n\n```toml\n(.*?)```", GUIDE, re.DOTALL):
        (tmp_path / name).write_text(text)
    return made


async def test_the_guide_does_what_it_says(shell: Shell) -> None:
    """Each command is run, and each line that stands below it is in what it says."""
    asked = re.findall(r"^\$ labora (.*)\n((?:[^$`].*\n)*)", GUIDE, re.MULTILINE)
    assert len(asked) >= 14
    for command, said in asked:
        answer = await shell.run(*shlex.split(command))
        refused = "is active already" in said
        assert answer.status == (1 if refused else 0), (command, answer.err)
        for line in said.splitlines():
            assert line in answer.out + answer.err, (command, answer.out, answer.err)
    async with shell.laboratory.database.organization(shell.organization.id) as connection:
        done = {row["action"] for row in await connection.fetch("select action from lab.audit_event")}
    assert {"import", "validate", "shadow_on", "activate", "off", "on", "deactivate"} <= done


def test_the_guide_names_every_fact() -> None:
    said = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.*) \|$", GUIDE, re.MULTILINE)
    assert said == [(key, one.kind.value, one.text) for key, one in PREDICATES.items()]


async def test_a_file_that_is_wrong_is_told_with_every_place(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text('name = "A"\n[[rule]]\nname = "x"\nrequire = [{ foo = 1 }]\n')
    for command in (("test", "wrong.toml"), ("import", "wrong.toml", "--as", "dora", "--reason", "r")):
        answer = await shell.run("rule", *command)
        assert answer.status == 1 and answer.out == ""
        assert "wrong.toml: name: 'A' is not" in answer.err and "wrong.toml: rule[0].require[0].foo" in answer.err


async def test_a_case_that_fails_fails_the_command_and_leaves_no_stamp(shell: Shell, tmp_path: Path) -> None:
    await shell.run("rule", "import", "rules.toml", "--as", "dora", "--reason", "r")
    wrong = (tmp_path / "cases.toml").read_text().replace('expect = "release"', 'expect = "hold"')
    (tmp_path / "wrong.toml").write_text(wrong)
    answer = await shell.run("rule", "test", "default", "--cases", "wrong.toml", "--as", "dora", "--json")
    assert answer.status == 1
    assert answer.json["failures"] == ["K: case as it should be: expected hold, it is release"]
    assert (answer.json["passed"], answer.json["stamped"]) == (False, False)
    refused = await shell.run("rule", "activate", "default@1", "--as", "dora", "--reason", "r")
    assert refused.status == 1 and "has not been validated" in refused.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("import", "rules.toml", "--as", "vera", "--reason", "r"), 1, "permission rule:write"),
        (("import", "rules.toml", "--reason", "r"), 2, "say who does it"),
        (("import", "rules.toml", "--as", "dora"), 2, "--reason"),
        (("import", "nosuch.toml", "--as", "dora", "--reason", "r"), 1, "cannot read nosuch.toml"),
        (("activate", "default", "--as", "dora", "--reason", "r"), 2, "say which revision"),
        (("activate", "default@9", "--as", "dora", "--reason", "r"), 1, "there is no rule set default@9"),
        (("show", "default@x"), 2, "is not NAME or NAME@REVISION"),
        (("show", "default"), 1, "there is no rule set default"),
        (("report", "default"), 1, "there is no rule set default"),
        (("off", "--test", "K", "--analyzer", "a", "--as", "vera", "--reason", "r"), 2, "one at a time"),
        (("off", "--test", "NOSUCH", "--as", "vera", "--reason", "r"), 1, "there is no test 'NOSUCH'"),
        (("off", "--as", "ada", "--reason", "r"), 1, "rule:write or result:release"),
        (("on", "--as", "vera", "--reason", "r"), 1, "permission rule:write"),
        (("on", "--as", "dora", "--reason", "r"), 1, "was not switched off"),
    ],
)
async def test_what_is_refused(shell: Shell, arguments: tuple[str, ...], status: int, said: str) -> None:
    answer = await shell.run("rule", *arguments)
    assert (answer.status, answer.out) == (status, "")
    assert said in answer.err


async def test_the_shipped_rules_are_proved_and_are_off(shell: Shell) -> None:
    answer = await shell.run("rule", "test", "mappings/rules/default.toml")
    assert answer.status == 1 and "cannot read" in answer.err  # a file is one from here
    shipped = Path(__file__).parents[2] / "mappings" / "rules" / "default.toml"
    answer = await shell.run("rule", "test", str(shipped), "--vectors", "--json")
    assert answer.status == 0 and answer.json["uncovered"] == [] and answer.json["vectors"] > 300
    assert 'autoverification = "off"' in shipped.read_text()
    listed = await shell.run("rule", "list", "--json")
    assert listed.json == {"revisions": [], "off": []}


async def test_who_stores_or_lists_rules_sees_what_they_say_of_what_there_is_not(shell: Shell, tmp_path: Path) -> None:
    """A check of a mistyped analyzer or type of specimen was made of no result, and nothing told it from another."""
    why = ("--as", "dora", "--reason", "r")
    text = (tmp_path / "rules.toml").read_text()
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await connection.execute(
            "insert into lab.specimen_type (id, organization_id, code, name) values ($1, $2, 'SER', 'Serum')"
            " on conflict do nothing", uuid7(), shell.organization.id,
        )  # fmt: skip
    scope = 'analyzers = ["chem-l"]\nspecimen_types = ["SER", "SERUN"]\n'
    (tmp_path / "scoped.toml").write_text(text.replace("window_d = 7\n", f"window_d = 7\n{scope}", 1))
    stored = await shell.run("rule", "import", "scoped.toml", *why)
    said = "default@1 speaks of analyzer chem-l, specimen type SERUN, which there is not"
    assert (stored.status, said in stored.err) == (0, True), stored.err
    assert said not in (await shell.run("rule", "list")).err, "it is not in force"
    assert (await shell.run("rule", "test", "default@1", "--as", "dora")).status == 0
    assert (await shell.run("rule", "activate", "default@1", *why)).status == 0
    listed, rows = await shell.run("rule", "list"), (await shell.run("rule", "list", "--json")).json["revisions"]
    assert said in listed.err
    assert [row["unknown"] for row in rows] == [["analyzer chem-l", "specimen type SERUN"]]


async def test_who_lists_rules_sees_that_nothing_is_released_by_them_any_more(shell: Shell, tmp_path: Path) -> None:
    """A test got another decimal: every result waits for a person, and `active` was all that was said."""
    why = ("--as", "dora", "--reason", "r")
    for arguments in (("import", "rules.toml", *why), ("test", "default@1", "--as", "dora"),
                      ("activate", "default@1", *why)):  # fmt: skip
        assert (await shell.run("rule", *arguments)).status == 0
    assert "releases nothing" not in (await shell.run("rule", "list")).err
    assert (await shell.run("test", "set", "K", "--decimals", "2", "--as", "ada", "--reason", "r")).status == 0
    listed, rows = await shell.run("rule", "list"), (await shell.run("rule", "list", "--json")).json["revisions"]
    said = "a test that it names has another unit, decimals, kind or substance now, or is not in use any more"
    assert f"default@1 releases nothing: {said}; `labora rule test default@1 --as USER`" in listed.err
    assert [(row["mode"], row["void"]) for row in rows] == [("active", said)]
    shown = await shell.run("rule", "show", "default@1", "--json")
    assert shown.json["void"] == said and f"void {said}" in (await shell.run("rule", "show", "default@1")).err
    assert (await shell.run("rule", "test", "default@1", "--as", "dora")).status == 0
    assert "releases nothing" not in (await shell.run("rule", "list")).err

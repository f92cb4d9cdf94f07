"""`labora message replay --dry-run` with a map, a driver or rules that are not in force."""

from __future__ import annotations

from typing import Any

from interface.driver import registry
from tests.cli.workbench import Workbench
from tests.flow.rulebook import RULES

TRY = ("message", "replay", "--since", "2026-01-01", "--dry-run", "--as", "vera")
# That patients' data were shown is audited; and the journal notes, when it comes to it, that its replies were taken.
OTHERS = ("audit_event", "audit_segment", "message_key")


async def contents(bench: Workbench) -> dict[str, str]:
    """What every table says, by name."""
    owner = bench.laboratory.owner
    names = await owner.fetch(
        """select c.relname from pg_class c where c.relnamespace = 'lab'::regnamespace and c.relkind in ('r', 'p')
           and not c.relispartition and c.relname <> all($1)""",
        list(OTHERS),
    )
    query = """select coalesce(md5(string_agg(one, '|' order by one)), '')
                 from (select (to_jsonb(t) - 'reply')::text as one from lab.{} t) of"""
    return {row["relname"]: await owner.fetchval(query.format(row["relname"])) for row in names}


async def tried(bench: Workbench, *arguments: str) -> dict[str, dict[str, Any]]:
    """What a trial says of each result, by its code as the analyzer sent it; and that it has written nothing."""
    before = await contents(bench)
    answer = await bench.run(*TRY, *arguments, "--json")
    assert answer.status == 0, answer.err
    assert await contents(bench) == before
    assert answer.json["done"] is False
    return {(one["before"]["code"] or one["code"]): one for each in answer.json["messages"] for one in each["changes"]}


async def refused(bench: Workbench, *arguments: str) -> str:
    before = await contents(bench)
    answer = await bench.run(*TRY, *arguments)
    assert answer.status == 1, answer.out
    assert answer.err.endswith("labora: nothing was tried\n") and not answer.out
    assert await contents(bench) == before
    return answer.err


def said(one: dict[str, Any], of: str) -> tuple[str, str, str, str, list[str]]:
    part = one[of]
    return part["status"], part["test"], part["value"], part["unit"], part["held"]


async def released(bench: Workbench, *results: str) -> None:
    """Results that a person has released."""
    await bench.receive("S1", *results)
    for one in await bench.laboratory.results():
        if not one.held:
            await bench.laboratory.release(one.id)


def manifest(*changes: tuple[str, str]) -> str:
    text = registry.load("generic_lis2").manifest
    for old, new in (('revision = "1"', 'revision = "2"'), *changes):
        assert old in text
        text = text.replace(old, new, 1)
    return text


async def test_a_map_that_is_not_in_force_is_tried_on_what_waits_and_on_what_was_released(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K", "NA")
    await released(bench, "687|31|U/L", "2823-3|4.1|mmol/L", "2951-2|140|mmol/L")
    rows = "driver,code,test\ngeneric_lis2,687,AST\ngeneric_lis2,2823-3,NA\n"
    found = await tried(bench, "--map", bench.file("new.csv", rows))
    assert sorted(found) == ["2823-3", "687"], "the third is read as before"
    waited, stays = found["687"], found["2823-3"]
    assert said(waited, "before") == ("registered", "", "31", "U/L", ["unmapped_code"])
    assert said(waited, "after") == ("preliminary", "AST", "31", "U/L", [])
    assert said(stays, "before") == ("final", "K", "4.1", "mmol/L", [])
    assert said(stays, "after")[:4] == ("preliminary", "NA", "4.1", "mmol/L")
    assert (waited["stays"], stays["stays"]) == (False, True)
    text = await bench.run(*TRY, "--map", str(bench.folder / "new.csv"))
    assert "1 results of 1 messages would be decided anew; 1 would be said otherwise, and stay as they are" in text.err
    assert "stays; else preliminary NA 4.1 mmol/L" in text.out
    of_code = await tried(bench, "--map", str(bench.folder / "new.csv"), "--link", "bench")
    assert of_code.keys() == found.keys()


async def test_a_driver_that_is_not_in_force_is_tried(bench: Workbench) -> None:
    """One that reads the code from elsewhere, one that holds, and the one that the link runs."""
    await bench.order("S1", "SER", "K", "NA")
    await released(bench, "2823-3^687|4.1|mmol/L", "2951-2|140|mmol/L")
    file = bench.file("driver.toml", manifest(('F = "ok"', 'F = "failed"')))
    found = await tried(bench, "--driver", file)
    assert {code: (one["stays"], one["before"]["held"], one["after"]["held"]) for code, one in found.items()} == {
        "2823-3": (True, [], ["run_failed"]), "2951-2": (True, [], ["run_failed"]),
    }  # fmt: skip
    assert await tried(bench, "--driver", "generic_lis2@1") == {}
    assert await tried(bench, "--driver", "generic_lis2") == {}
    kept = await bench.laboratory.owner.fetch("select revision from lab.driver_revision where driver = 'generic_lis2'")
    assert [row["revision"] for row in kept] == ["1"]


async def test_a_driver_that_reads_another_code_says_old_and_new_and_is_tried_with_its_map(bench: Workbench) -> None:
    await bench.order("S1", "SER", "K", "NA")
    await released(bench, "2823-3|4.1|mmol/L", "687|140|mmol/L")
    other = manifest(("[[role]]", '[code]\npattern = "([0-9]+).*"\n\n[[role]]'))
    file = bench.file("driver.toml", other)
    found = await tried(bench, "--driver", file, "--link", "bench")
    assert (found["2823-3"]["before"]["code"], found["2823-3"]["after"]["code"]) == ("2823-3", "2823")
    assert found["2823-3"]["after"]["held"] == ["unmapped_code"]
    rows = bench.file("new.csv", "link,code,test\nbench,2823,K\nbench,687,NA\n")
    found = await tried(bench, "--driver", file, "--map", rows, "--link", "bench")
    assert said(found["687"], "after") == ("preliminary", "NA", "140", "mmol/L", [])
    assert found["2823-3"]["after"]["test"] == "K"
    line = (await bench.run(*TRY, "--driver", file, "--map", rows, "--link", "bench")).out
    assert "2823-3 -> 2823" in line


async def test_rules_that_were_never_stored_are_tried(bench: Workbench) -> None:
    await bench.order("S1", "SER", "NA", "K")
    await bench.receive("S1", "2951-2|140|mmol/L", "2823-3|2.0|mmol/L")
    found = await tried(bench, "--rules", bench.file("strict.toml", RULES))
    assert said(found["2951-2"], "after")[::4] == ("final", [])
    assert said(found["2823-3"], "after")[::4] == ("registered", ["rule"])
    told = await bench.run(*TRY, "--rules", str(bench.folder / "strict.toml"))
    assert f"would be decided anew by {bench.folder / 'strict.toml'}" in told.err
    assert await bench.laboratory.owner.fetchval("select count(*) from lab.rule_set") == 0


async def test_what_is_wrong_with_what_is_tried_is_said_with_its_place(bench: Workbench) -> None:
    await bench.order("S1", "SER", "K")
    await bench.receive("S1", "2823-3|4.1|mmol/L")
    rows = bench.file("bad.csv", "driver,code,test\ngeneric_lis2,687,NOPE\nnobody,1,K\n")
    err = await refused(bench, "--map", rows)
    assert f"{rows}:2: test: there is no test 'NOPE'" in err and f"{rows}:3: driver: there is no driver" in err
    unit = bench.file("unit.csv", "driver,code,test,unit\ngeneric_lis2,687,AST,mmol/L\n")
    assert f"{unit}:2: unit: mmol/L cannot be converted" in await refused(bench, "--map", unit)
    driver = bench.file("driver.toml", manifest(('F = "ok"', 'F = "fine"'), ('protocol = "lis2"', 'protocol = "x"')))
    err = await refused(bench, "--driver", driver)
    assert f"{driver}: status" in err and f"{driver}: driver.protocol" in err
    assert "there is no driver 'nobody'" in await refused(bench, "--driver", "nobody")
    assert "no revision '7' of generic_lis2" in await refused(bench, "--driver", "generic_lis2@7")
    rules = bench.file("rules.toml", RULES.replace('"NA"', '"NOPE"').replace('name = "default"', 'name = "A"'))
    err = await refused(bench, "--rules", rules)
    assert f"{rules}: name: 'A' is not" in err
    rules = bench.file("rules.toml", RULES.replace('"NA"', '"NOPE"'))
    assert f"{rules}: there is no test 'NOPE' in use" in await refused(bench, "--rules", rules)
    assert "there is no rule set default@1" in await refused(bench, "--rules", "default@1")
    other = bench.file("other.toml", RULES.replace('name = "default"', 'name = "other"'))
    assert "concerns a link of this configuration; --link says" in await refused(bench, "--rules", other)
    assert (await tried(bench, "--rules", other, "--link", "bench")).keys() == {"2823-3"}
    assert "no analyzer's link 'x'" in await refused(bench, "--rules", other, "--link", "x")
    assert "speaks hl7" in await refused(bench, "--driver", "generic_hl7", "--link", "bench")


async def test_what_is_not_in_force_decides_nothing(bench: Workbench) -> None:
    rows = bench.file("new.csv", "driver,code,test\ngeneric_lis2,687,AST\n")
    for arguments in (("--map", rows), ("--driver", "generic_lis2"), ("--rules", "default@1")):
        answer = await bench.run("message", "replay", "--since", "2026-01-01", "--yes", "--as", "vera", *arguments)
        assert (answer.status, "belong to --dry-run" in answer.err) == (2, True)
    await bench.laboratory.owner.execute("update lab.app_user set roles = '{viewer}' where username = 'vera'")
    answer = await bench.run(*TRY, "--map", rows)
    assert (answer.status, answer.err) == (1, "labora: this needs the permission message:replay\n")

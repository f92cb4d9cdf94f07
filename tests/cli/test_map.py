"""`labora map set`, `unset`, `copy`, `undo`, `history`: who maps what from when to when, and nothing is overwritten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.mapping import effective
from interface.domain.model import HoldReason
from interface.store.catalogues import read_catalogue
from interface.store.maps import read_rows
from tests.cli.workbench import Workbench

DRIVER = ("--driver", "generic_lis2")


async def mapped(bench: Workbench, code: str, specimen_type: str = "BLD") -> str:
    """What a result of the code is decided by now: a test's code, "" when it is held."""
    lab = bench.laboratory
    async with lab.database.organization(lab.organization_id) as connection:
        catalogue = await read_catalogue(connection, lab.organization_id, "generic_lis2", lab.context.link_id)
        rows = await read_rows(connection)
    mapping = catalogue.mapping(code, specimen_type)
    test = catalogue.tests[mapping.test_id].code if mapping and mapping.test_id else ""
    found = effective(rows, "generic_lis2", "bench", datetime.now(UTC))
    row = found.get((code, specimen_type)) or found.get((code, ""))
    assert (row.span.target.test if row else "") == test, "the workbench shows another mapping than decisions take"
    return test


def days(number: int) -> str:
    return (datetime.now(UTC) + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ").replace("Z", "+0000")


async def test_a_code_is_mapped_from_now_on_and_the_explanation_names_the_change(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    said = await bench.change("set", "NEWGLU", "GLU", *DRIVER, reason="new reagent")
    assert said.out == "+ generic_lis2 NEWGLU: GLU\n"
    assert "change 1: 1 rows added, 0 ended; `labora map undo 1` takes it back" in said.err
    await bench.receive("S1", "NEWGLU|91|mg/dL")
    result = (await bench.laboratory.results())[0]
    assert (result.test_code, result.value, result.held) == ("GLU", "91", ())
    step = next(
        one
        for one in await bench.laboratory.owner.fetchval("select lab.explained(steps)::json from lab.decision")
        if one["step"] == "map"
    )
    row = (await bench.run("map", "list", "--code", "NEWGLU", "--json")).json[0]
    assert (step["version"], step["inputs"]["row"]) == ("site map 1", row["id"])


async def test_who_and_why_are_kept_and_audited(bench: Workbench) -> None:
    await bench.change("set", "NEWGLU", "GLU", *DRIVER, reason="letter of 3 May")
    history = (await bench.run("map", "history", "--json")).json
    assert [(one["number"], one["actor"], one["reason"], one["kind"]) for one in history] == [
        (1, "ada", "letter of 3 May", "set")
    ]
    event = await bench.laboratory.owner.fetchrow(
        "select * from lab.audit_event where entity_kind = 'code_map' and action = 'set'"
    )
    assert event is not None
    assert (event["actor_kind"], event["actor_name"], event["detail"]["reason"]) == ("user", "ada", "letter of 3 May")
    assert event["detail"]["codes"] == "generic_lis2 NEWGLU"


async def test_nobody_changes_maps_without_a_name_the_permission_and_a_reason(bench: Workbench) -> None:
    change = ("map", "set", "NEWGLU", "GLU", *DRIVER)
    for arguments, status, said in (
        ((*change, "--reason", "x"), 2, "--as USER"),
        ((*change, "--as", "ada"), 2, "--reason TEXT"),
        ((*change, "--as", "ada", "--reason", " "), 2, "--reason TEXT"),
        ((*change, "--as", "vera", "--reason", "x"), 1, "this needs the permission map:write"),
    ):
        answer = await bench.run(*arguments)
        assert answer.status == status, answer.err
        assert said in answer.err
    assert await bench.changes() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("X", "NOTEST", *DRIVER), "labora map set: TEST: there is no test 'NOTEST'"),
        (("X", "GLU", "--driver", "nowhere"), "--driver: there is no driver 'nowhere'"),
        (("X", "GLU", "--link", "nowhere"), "--link: there is no link 'nowhere'"),
        (("X", "GLU", *DRIVER, "--unit", "U/L"), "--unit: U/L cannot be converted to the mg/dL of GLU"),
        (("X", "GLU", *DRIVER, "--unit", "furlong"), "--unit: unknown unit 'furlong'"),
        (("X", "GLU", *DRIVER, "--from", "2026-02-01", "--until", "2026-01-01"), "--until: is not after valid_from"),
        (("", "GLU", *DRIVER), "CODE: is empty"),
        (("X\x1b", "GLU", *DRIVER), "CODE: has a character that cannot be printed"),
    ],
)  # fmt: skip
async def test_what_cannot_be_a_mapping_is_refused_by_name(
    bench: Workbench, arguments: tuple[str, ...], said: str
) -> None:
    assert said in await bench.refused("set", *arguments)


async def test_a_mapping_valid_from_tomorrow_does_not_apply_today(bench: Workbench) -> None:
    await bench.change("set", "HGB", "RBC", *DRIVER, "--from", days(1))
    assert await mapped(bench, "HGB") == "HGB"
    await bench.change("set", "NEWGLU", "GLU", *DRIVER, "--from", days(1))
    assert await mapped(bench, "NEWGLU") == ""
    await bench.order("S1", "SER", "GLU")
    await bench.receive("S1", "NEWGLU|91|mg/dL")
    assert (await bench.laboratory.results())[0].held == (HoldReason.UNMAPPED_CODE,)


async def test_a_mapping_for_a_time_gives_way_to_what_was_before_it(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER, "--from", days(-3))
    await bench.change("set", "X", "UA", *DRIVER, "--until", days(2))
    rows = (await bench.run("map", "list", "--code", "X", "--all", "--json")).json
    assert [row["test"] for row in rows] == ["GLU", "UA", "GLU"]
    assert [rows[0]["valid_to"], rows[1]["valid_to"]] == [rows[1]["valid_from"], rows[2]["valid_from"]]
    assert rows[2]["valid_to"] is None
    assert [row["revision"] for row in rows] == [1, 2, 1], "what is left of a row still says whose it was"
    assert await mapped(bench, "X") == "UA"


async def test_the_same_again_changes_nothing(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    again = await bench.change("set", "X", "GLU", *DRIVER)
    assert "there is nothing to change" in again.err
    assert await bench.changes() == 1


async def test_two_specimen_types_may_have_different_tests(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER, "--specimen-type", "SER")
    await bench.change("set", "X", "UA", *DRIVER, "--specimen-type", "UR")
    assert [await mapped(bench, "X", kind) for kind in ("SER", "UR", "CSF")] == ["GLU", "UA", ""]
    await bench.order("S1", "SER", "GLU")
    await bench.order("U1", "UR", "UA")
    await bench.receive("S1", "X|91|mg/dL", control="C1")
    await bench.receive("U1", "X|5.1|mg/dL", control="C2")
    assert [(one.test_code, one.held) for one in await bench.laboratory.results()] == [("GLU", ()), ("UA", ())]
    await bench.change("set", "X", "CREA", *DRIVER)
    assert [await mapped(bench, "X", kind) for kind in ("SER", "UR", "CSF")] == ["GLU", "UA", "CREA"]


async def test_a_link_s_own_row_wins_over_its_driver_s(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("set", "X", "UA", "--link", "bench")
    assert await mapped(bench, "X") == "UA"
    assert await bench.rows() == [("", "X", "", "GLU"), ("bench", "X", "", "UA")]
    assert (
        "give one of --driver and --link" in (await bench.run("map", "unset", "X", "--as", "ada", "--reason", "x")).err
    )


async def test_unset_holds_a_code_whatever_the_shipped_map_says(bench: Workbench) -> None:
    assert await mapped(bench, "HGB") == "HGB"
    assert (await bench.change("unset", "HGB", *DRIVER)).out == "+ generic_lis2 HGB: held\n"
    assert await mapped(bench, "HGB") == ""
    await bench.order("S1", "BLD", "HGB")
    await bench.receive("S1", "HGB|13.5|g/dL")
    assert (await bench.laboratory.results())[0].held == (HoldReason.UNMAPPED_CODE,)
    steps = await bench.laboratory.owner.fetchval("select lab.explained(steps)::json from lab.decision")
    assert next(step["text"] for step in steps if step["step"] == "map") == "the laboratory wants this code held"
    await bench.change("unset", "HGB", *DRIVER, "--own")
    assert await mapped(bench, "HGB") == "HGB"


async def test_unset_for_a_time_and_of_nothing(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("unset", "X", *DRIVER, "--from", days(1), "--until", days(2))
    assert await mapped(bench, "X") == "GLU"
    rows = (await bench.run("map", "list", "--code", "X", "--json")).json
    assert [(row["test"], row["valid_to"] is None) for row in rows] == [("GLU", False), ("GLU", True)]
    assert "Y is not mapped; there is nothing to unset" in await bench.refused("unset", "Y", *DRIVER)
    assert "HGB is not mapped by a row of the site" in await bench.refused("unset", "HGB", *DRIVER, "--own")


async def test_what_ends_before_it_begins_is_refused(bench: Workbench) -> None:
    """A year that was mistyped: who believes that the code is held, or is another test, is told that it is not."""
    await bench.change("set", "X", "GLU", *DRIVER)
    before = await bench.changes()
    for change in (
        ("unset", "X", *DRIVER, "--until", days(-300)),
        ("unset", "X", *DRIVER, "--own", "--from", days(2), "--until", days(1)),
        ("unset", "HGB", *DRIVER, "--until", days(-300)),
        ("set", "X", "UA", *DRIVER, "--until", days(-300)),
    ):
        assert "before it begins" in await bench.refused(*change)
    assert (await mapped(bench, "X"), await bench.changes()) == ("GLU", before)


async def test_unset_of_one_specimen_type_leaves_the_row_for_any_to_the_others(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("unset", "X", *DRIVER, "--specimen-type", "UR")
    assert [await mapped(bench, "X", kind) for kind in ("UR", "SER")] == ["", "GLU"]


async def test_undo_brings_back_what_was_there_and_can_be_undone(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("set", "X", "UA", *DRIVER)
    assert (await bench.change("undo", "2")).out == "~ generic_lis2 X: UA → GLU\n"
    assert await mapped(bench, "X") == "GLU"
    await bench.change("undo", "3")
    assert await mapped(bench, "X") == "UA"
    history = (await bench.run("map", "history", "--json")).json
    assert [(one["number"], one["kind"], one["undoes"], one["undone_by"]) for one in history] == [
        (4, "undo", 3, 0), (3, "undo", 2, 4), (2, "set", 0, 3), (1, "set", 0, 0)
    ]  # fmt: skip
    ended = await bench.laboratory.owner.fetch(
        "select ended_by from lab.code_map where code = 'X' and ended_at is not null"
    )
    assert len(ended) == 4, "every row that was ever there still is"


async def test_an_undo_that_a_later_change_stands_on_is_refused(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("set", "Y", "UA", *DRIVER)
    await bench.change("set", "X", "UA", *DRIVER)
    assert "later ones are about the same codes (3); undo them first" in await bench.refused("undo", "1")
    await bench.change("undo", "2")
    await bench.change("undo", "3")
    await bench.change("undo", "1")
    assert await bench.rows() == []
    assert "change 1 has been undone by change 6" in await bench.refused("undo", "1")
    assert "there is no change 99" in await bench.refused("undo", "99")


async def test_undo_of_an_unset_whose_code_was_mapped_since_is_refused(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("unset", "X", *DRIVER)
    await bench.change("set", "X", "UA", *DRIVER)
    assert "(3); undo them first" in await bench.refused("undo", "2")


async def test_a_change_shows_its_rows(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", *DRIVER)
    await bench.change("set", "X", "UA", *DRIVER)
    shown = (await bench.run("map", "history", "2", "--json")).json
    assert sorted(row["test"] for row in shown["added"]) == ["GLU", "UA"]
    assert [row["test"] for row in shown["ended"]] == ["GLU"]
    assert "UA" in (await bench.run("map", "history", "2")).out


async def test_copying_a_link_keeps_its_mapping_decisions(bench: Workbench) -> None:
    await bench.change("set", "X", "GLU", "--link", "bench", "--specimen-type", "SER", "--note", "by letter")
    await bench.change(
        "set", "X", "UA", "--link", "bench", "--specimen-type", "UR", "--from", days(1), "--until", days(9)
    )
    await bench.change("unset", "HGB", "--link", "bench")
    await bench.change("set", "Y", "CREA", *DRIVER)
    before = (await bench.run("map", "list", "--link", "bench", "--json")).json
    assert len(before) == 3
    await bench.change("copy", "bench", "second")
    after = (await bench.run("map", "list", "--link", "second", "--json")).json
    same = ("code", "specimen_type", "test", "unit", "note", "valid_from", "valid_to")
    assert [[row[name] for name in same] for row in after] == [[row[name] for name in same] for row in before]
    assert len((await bench.run("map", "list", "--link", "bench", "--json")).json) == 3
    assert "second has no rows of its own" not in await bench.refused("copy", "sysmex_xn", "second")


async def test_a_dry_run_of_anything_changes_nothing_and_needs_no_name(bench: Workbench) -> None:
    answer = await bench.run("map", "set", "X", "GLU", *DRIVER, "--dry-run", "--json")
    assert answer.status == 0, answer.err
    assert (answer.json["applied"], answer.json["counts"]["add"]) == (False, 1)
    assert await bench.changes() == 0


async def test_the_list_says_who_wins_and_is_filtered(bench: Workbench) -> None:
    await bench.change("set", "HGB", "RBC", *DRIVER)
    rows = (await bench.run("map", "list", "--code", "HGB", "--json")).json
    assert [(row["origin"], row["test"]) for row in rows] == [("shipped", "HGB"), ("site", "RBC")]
    assert (await bench.run("map", "list", "--test", "RBC", "--site", "--json")).json[0]["code"] == "HGB"
    nothing = await bench.run("map", "list", "--code", "NOTHING")
    assert (nothing.out, nothing.err) == ("", "no rows\n")
    table = (await bench.run("map", "list", "--site")).out.splitlines()
    assert table[0].split() == ["driver", "link", "code", "specimen", "type", "test", "loinc", "unit", "method",
                                "valid", "from", "valid", "to", "origin", "revision"]  # fmt: skip

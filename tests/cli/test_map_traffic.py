"""`labora map unmapped`, `suggest`, `coverage` and `labora message replay`: from a held code to its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.views import Audience
from interface.driver import registry
from tests.cli.workbench import Workbench, open_workbench
from tests.flow.control_bench import control_bench
from tests.flow.laboratory import message

DRIVER = ("--driver", "generic_lis2")


async def unmapped(bench: Workbench) -> list[dict[str, Any]]:
    answer = await bench.run("map", "unmapped", "--json")
    assert answer.status == 0, answer.err
    found: list[dict[str, Any]] = answer.json
    return found


async def replay(bench: Workbench, *arguments: str) -> dict[str, Any]:
    answer = await bench.run("message", "replay", *arguments, "--json", "--as", "vera")
    assert answer.status == 0, answer.err
    found: dict[str, Any] = answer.json
    return found


async def told(bench: Workbench) -> list[tuple[str, str, str, tuple[HoldReason, ...]]]:
    return [(one.code, one.test_code, one.value, one.held) for one in await bench.laboratory.results()]


# ---- unmapped, suggest, coverage


async def test_unmapped_codes_are_counted_live_with_where_and_what(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    await bench.order("S2", "UR", "GLU")
    await bench.receive("S1", "687|31|U/L", "2823-3|4.1|mmol/L", control="C1")
    await bench.receive("S2", "687|29|U/L", control="C2")
    await bench.receive("S1", "687|30|U/L", control="C3")
    found = await unmapped(bench)
    mine = {(one["code"], one["specimen_type"]): one for one in found}
    assert {key for key in mine if key[0] == "687"} == {("687", "SER"), ("687", "UR")}
    on_serum = mine["687", "SER"]
    assert (on_serum["link"], on_serum["driver"], on_serum["units"]) == ("bench", "generic_lis2", ["U/L"])
    received = await bench.laboratory.owner.fetch("select received_at from lab.message order by id")
    assert on_serum["last_seen"] >= on_serum["first_seen"]
    assert on_serum["results"] == 1, "the third message says the same result of the same specimen and time anew"
    assert (on_serum["examples"], len(received)) == (["30"], 3)
    assert on_serum["now"] == ""
    text = (await bench.run("map", "unmapped", "--link", "bench")).out
    assert "687" in text
    assert (await bench.run("map", "unmapped", "--link", "second")).err == "nothing waits for a mapping\n"


async def test_a_mapped_code_waits_for_its_replay_and_then_is_gone(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    said = await bench.change("set", "687", "AST", *DRIVER)
    assert "1 held results wait: `labora message replay --unmapped 687`" in said.err
    assert [(one["code"], one["now"]) for one in await unmapped(bench)] == [("687", "AST")]
    await replay(bench, "--unmapped", "687", "--yes")
    assert await unmapped(bench) == []


async def test_controls_with_an_unmapped_code_are_counted_until_it_is_mapped(bench: Workbench) -> None:
    await bench.laboratory.send(message("P|1", "O|1|QC-L1||^^^X|R||||||Q", "R|1|^^^687|31|U/L||N||F"))
    await bench.laboratory.settle()
    controls = await bench.laboratory.owner.fetchval("select count(*) from lab.qc_result where test_id is null")
    assert controls == 1
    assert [(one["code"], one["results"], one["controls"]) for one in await unmapped(bench)] == [("687", 0, 1)]
    await bench.change("set", "687", "AST", *DRIVER)
    assert await unmapped(bench) == []


async def test_a_control_whose_code_is_mapped_by_now_is_judged_by_a_replay(bench: Workbench) -> None:
    await bench.laboratory.send(message("P|1", "O|1|QC-L1||^^^X|R||||||Q", "R|1|^^^687|31|U/L||N||F"))
    await bench.laboratory.settle()
    await control_bench(bench.laboratory).lot(1, "QC-L1")
    await bench.change("set", "687", "AST", *DRIVER)
    shown = await replay(bench, "--unmapped", "687", "--dry-run")
    (control,) = shown["messages"][0]["controls"]
    assert (control["code"], control["before"], control["after"], control["stays"]) == (
        "687", "held: unmapped_code", "unknown as of Norm, lot 77/1", False,
    )  # fmt: skip
    answer = await bench.run("message", "replay", "--unmapped", "687", "--yes", "--as", "vera")
    assert answer.status == 0, answer.err
    assert "1 controls judged anew" in answer.err and "unknown as of Norm, lot 77/1" in answer.out
    assert (
        await bench.laboratory.owner.fetchval("select t.code from lab.qc_point p join lab.test t on t.id = p.test_id")
        == "AST"
    )
    assert (await replay(bench, "--unmapped", "687", "--yes"))["messages"] == []


async def suggested(bench: Workbench, *arguments: str) -> list[tuple[str, str]]:
    answer = await bench.run("map", "suggest", *arguments, "--json")
    assert answer.status == 0, answer.err
    return [(one["test"], "; ".join(one["reasons"])) for one in answer.json[0]["candidates"]]


async def test_suggestions_have_their_reasons_and_map_nothing(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K")
    await bench.receive("S1", "SGOT|31|U/L", "2823-3|4.1|mmol/L")
    await bench.receive("S1", "Potasium|4.1|mmol/L", control="C2")
    best, why = (await suggested(bench, "SGOT"))[0]
    assert best == "AST"
    assert "AST is ordered and open on 1 of 1 specimens that have this code" in why
    assert "its unit U/L fits U/L" in why
    assert all(test != "K" for test, _ in await suggested(bench, "SGOT")), (
        "a unit that does not convert is another test's"
    )
    assert await bench.changes() == 0
    assert await bench.rows() == []
    text = (await bench.run("map", "suggest")).out
    assert "bench SGOT on SER: 1 results" in text


async def test_a_livd_file_and_other_maps_are_heard(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    await bench.receive("S1", "9999|31|U/L", "RDW-CV|13.1|%")
    sheet = "Vendor Analyte Code\tVendor Analyte Name\tLOINC Code\n9999\tAspartate\t1920-8\n"
    file = bench.file("acme.tsv", sheet)
    answer = await bench.run("map", "suggest", "--livd", file, "--json")
    first = {one["code"]: one["candidates"][0] for one in answer.json}
    assert first["9999"]["test"] == "AST"
    assert f"LIVD maps it to 1920-8 ({file}:2)" in first["9999"]["reasons"]
    assert first["RDW-CV"]["test"] == "RDW_CV"
    assert any("has this code for it" in reason for reason in first["RDW-CV"]["reasons"])
    broken = await bench.run("map", "suggest", "--livd", bench.file("no.tsv", "a\tb\n"))
    assert (broken.status, "has no headings of a map" in broken.err) == (1, True)


async def test_coverage_is_of_what_the_driver_declares_and_what_was_sent(
    recycled_founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_workbench(recycled_founded_url, tmp_path, monkeypatch, capsys, "sysmex_xn") as bench:
        [before, second] = (await bench.run("map", "coverage", "--json")).json
        assert (before["link"], second["link"]) == ("bench", "second")
        assert before["mapped"] + before["unmapped"] + before["held"] == before["declared"] > 20
        await bench.change("unset", "HGB", "--link", "bench")
        await bench.change("set", "PLT", "WBC", "--driver", "sysmex_xn", "--until", "2099-01-01")
        [after, second] = (await bench.run("map", "coverage", "--json")).json
        assert (after["held"], after["mapped"]) == (1, before["mapped"] - 1)
        states = {one["code"]: (one["state"], one["tests"]) for one in after["codes"]}
        assert (states["HGB"], states["PLT"]) == (("held", []), ("mapped", ["WBC"]))
        assert second["held"] == 0, "a link's own decision is not another's"
        assert "HGB" in (await bench.run("map", "coverage", "--link", "bench", "--codes")).out


async def test_coverage_sees_codes_that_nobody_declared(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    await bench.receive("S1", "SGOT|31|U/L")
    found = (await bench.run("map", "coverage", "--link", "bench", "--json")).json[0]
    assert [(one["code"], one["declared"], one["results"], one["state"]) for one in found["codes"]] == [
        ("SGOT", False, 1, "unmapped")
    ]


# ---- replay


async def test_a_replay_shows_first_and_then_decides_what_waited(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K")
    await bench.receive("S1", "687|31|U/L", "2823-3|4.1|mmol/L")
    await bench.change("set", "687", "AST", *DRIVER)
    shown = await replay(bench, "--unmapped", "687", "--dry-run")
    [change] = shown["messages"][0]["changes"]
    assert (shown["done"], change["code"], change["before"]["held"]) == (False, "687", ["unmapped_code"])
    assert (change["after"]["test"], change["after"]["value"], change["after"]["held"]) == ("AST", "31", [])
    assert [one[3] for one in await told(bench)] == [(HoldReason.UNMAPPED_CODE,), ()], "a dry run changes nothing"
    assert await bench.laboratory.owner.fetchval("select count(*) from lab.result_version") == 2

    done = await replay(bench, "--unmapped", "687", "--yes", "--reason", "mapped today")
    assert (done["done"], done["messages"][0]["settled"]) == (True, "released")
    result = (await bench.laboratory.results())[0]
    assert (result.test_code, result.value, result.status, result.version) == ("AST", "31", ResultStatus.PRELIMINARY, 2)
    assert await bench.laboratory.messages() == [("complete", "released")]
    assert await bench.laboratory.results(Audience.EMR) == []
    steps = await bench.laboratory.owner.fetchval(
        "select lab.explained(d.steps)::json as steps from lab.decision d where d.result_version_id = $1",
        result.version_id,
    )
    assert [step["step"] for step in steps][:2] == ["receive", "replay"]
    assert (steps[1]["text"], steps[1]["inputs"]) == ("decided anew by vera", {"reason": "mapped today"})
    version = await bench.laboratory.owner.fetchrow(
        "select actor_kind, actor_id from lab.result_version where id = $1", result.version_id
    )
    event = await bench.laboratory.owner.fetchrow(
        "select * from lab.audit_event where action = 'replay' and entity_kind = 'message'"
    )
    assert version is not None and event is not None
    assert (version["actor_kind"], version["actor_id"]) == ("user", event["actor_id"])
    assert (event["actor_name"], event["detail"]["code"]) == ("vera", "687")
    item = await bench.laboratory.owner.fetchval(
        "select i.status from lab.order_item i join lab.test t on t.id = i.test_id where t.code = 'AST'"
    )
    assert item == "completed"


async def test_a_replay_takes_all_that_waits_since_a_time_in_the_laboratory(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K")
    await bench.receive("S1", "687|31|U/L", "2823-3|4.1|mmol/L")
    for since in ("2026-01-01", "2026-01-01T08:30+07:00", "00:00"):
        answer = await bench.run("message", "replay", "--since", since, "--dry-run", "--as", "vera")
        assert answer.status == 0, answer.err
        assert "of 1 messages" in answer.err and answer.err.startswith("since 20"), answer.err
    for since, words in (("yesterday", "'yesterday' is no time; say it as"), ("2999-01-01", "is still to come")):
        answer = await bench.run("message", "replay", "--since", since, "--dry-run", "--as", "vera")
        assert (answer.status, words in answer.err, answer.err.count("rror")) == (2, True, 1), answer.err


async def test_a_replay_says_from_when_to_go_on_where_more_waits_than_it_takes(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K")
    await bench.receive("S1", "687|31|U/L", control="C1")
    await bench.laboratory.owner.execute("update lab.message set received_at = received_at - interval '1 hour'")
    await bench.receive("S1", "688|31|U/L", control="C2")
    message_id = str(await bench.laboratory.owner.fetchval("select id from lab.message where control_id = 'C2'"))
    some = ("message", "replay", "--since", "2026-01-01", "--dry-run", "--as", "vera", "--json", "--limit")
    answer = await bench.run(*some, "1")
    assert answer.status == 0, answer.err
    left = answer.json["left_out"]
    assert (len(answer.json["messages"]), left["messages"]) == (1, None)
    assert f"the oldest 1 messages, and more wait; go on with --since {left['since']}, or --limit takes" in answer.err
    rest = await replay(bench, "--since", left["since"], "--dry-run")
    assert ([one["message_id"] for one in rest["messages"]], rest["left_out"]) == ([message_id], None)
    answer = await bench.run(*some, "2")
    assert (len(answer.json["messages"]), answer.json["left_out"]) == (2, None)
    assert "more wait" not in answer.err


async def test_a_replay_says_how_many_messages_of_a_code_it_leaves_out(bench: Workbench) -> None:
    for number in "123":
        await bench.order(f"S{number}", "SER", "AST")
        await bench.receive(f"S{number}", "687|31|U/L", control=f"C{number}")
    found = await replay(bench, "--unmapped", "687", "--dry-run", "--limit", "1")
    assert (len(found["messages"]), found["left_out"]) == (1, {"messages": 2, "since": None})
    assert (await replay(bench, "--unmapped", "687", "--dry-run"))["left_out"] is None


async def test_a_replay_decodes_by_the_revision_that_the_link_runs(bench: Workbench) -> None:
    """And not by the one that a folder has got meanwhile."""
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    folder = registry.load("generic_lis2")
    older = folder.manifest.replace(f'revision = "{folder.revision}"', 'revision = "0"', 1)
    assert older != folder.manifest
    await bench.laboratory.owner.execute(
        """insert into lab.driver_revision (organization_id, driver, revision, digest, manifest)
           values ($1, 'generic_lis2', '0', 'older', $2)""",
        bench.laboratory.organization_id, older,
    )  # fmt: skip
    await bench.laboratory.owner.execute("update lab.link set driver_revision = '0'")
    await replay(bench, "--unmapped", "687", "--yes")
    result = (await bench.laboratory.results())[0]
    by = await bench.laboratory.owner.fetchval(
        "select driver_revision from lab.decision where result_version_id = $1", result.version_id
    )
    assert (result.version, by) == (2, "generic_lis2 0")


async def test_a_replay_of_one_code_leaves_the_others_of_the_message_alone(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "ALT")
    await bench.receive("S1", "687|31|U/L", "685|30|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    await bench.change("set", "685", "ALT", *DRIVER)
    done = await replay(bench, "--unmapped", "687", "--yes")
    assert done["messages"][0]["settled"] == "held"
    assert [(one[1], one[3]) for one in await told(bench)] == [("AST", ()), ("", (HoldReason.UNMAPPED_CODE,))]
    message_id = str(await bench.laboratory.owner.fetchval("select id from lab.message"))
    assert (await replay(bench, message_id, "--yes"))["messages"][0]["settled"] == "released"
    assert [one[1] for one in await told(bench)] == ["AST", "ALT"]


async def test_a_replay_never_puts_an_earlier_word_above_a_later_one(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L", control="C1")
    await bench.receive("S1", "687|35|U/L", control="C2")
    await bench.change("set", "687", "AST", *DRIVER)
    first = str(await bench.laboratory.owner.fetchval("select id from lab.message order by id limit 1"))
    assert (await replay(bench, first, "--yes"))["messages"] == []
    await replay(bench, "--unmapped", "687", "--yes")
    assert [(one[1], one[2]) for one in await told(bench)] == [("AST", "35")]


async def test_what_a_person_rejected_or_released_is_not_brought_back(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST", "K")
    await bench.receive("S1", "687|31|U/L", "2823-3|4.1|mmol/L")
    held, potassium = await bench.laboratory.results()
    await bench.laboratory.release(potassium.id)
    from interface.flow.review import reject

    lab = bench.laboratory
    async with lab.database.transaction(lab.organization_id) as connection:
        await reject(connection, lab.director, held.id, "spilled")
    await bench.change("set", "687", "AST", *DRIVER)
    message_id = str(await lab.owner.fetchval("select id from lab.message"))
    done = await replay(bench, message_id, "--dry-run")
    assert done["messages"][0]["changes"] == []
    assert [one.status for one in await lab.results()] == [ResultStatus.CANCELLED, ResultStatus.FINAL]


async def test_a_change_beside_a_released_result_is_decided_anew_and_still_waits(bench: Workbench) -> None:
    await bench.change("set", "687", "AST", *DRIVER)
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L", control="C1")
    await bench.laboratory.release((await bench.laboratory.results())[0].id)
    await bench.change("unset", "687", *DRIVER)
    await bench.receive("S1", "687|35|U/L", control="C2")
    await bench.change("set", "687", "AST", *DRIVER)
    done = await replay(bench, "--unmapped", "687", "--yes")
    [change] = done["messages"][0]["changes"]
    assert change["before"]["held"] == ["changed_after_release", "unmapped_code"]
    assert change["after"]["held"] == ["changed_after_release"]
    [result] = await bench.laboratory.results()
    assert (result.value, result.status, result.pending) == ("31", ResultStatus.FINAL, True)
    from interface.flow.review import accept_change

    lab = bench.laboratory
    async with lab.database.transaction(lab.organization_id) as connection:
        view = await accept_change(connection, lab.director, result.id, "seen")
    assert (view.value, view.status) == ("35", ResultStatus.CORRECTED)


async def test_a_cut_transmission_s_code_can_be_mapped_and_still_waits_for_its_end(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    records = message("P|1||P-1||Muster^Maria||19800501|F", "O|1|S1||^^^X|R", "R|1|^^^687|31|U/L||N||F")
    await bench.laboratory.send(records[:-1], end="lost")
    await bench.laboratory.settle()
    await bench.change("set", "687", "AST", *DRIVER)
    done = await replay(bench, "--unmapped", "687", "--yes")
    assert done["messages"][0]["changes"][0]["after"]["held"] == ["incomplete_transmission"]
    assert (await told(bench))[0][1:] == ("AST", "31", (HoldReason.INCOMPLETE_TRANSMISSION,))


async def test_still_unmapped_stays_as_it_is(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    done = await replay(bench, "--unmapped", "687", "--dry-run")
    assert (done["messages"][0]["changes"], done["messages"][0]["unchanged"]) == ([], 1)
    assert await bench.laboratory.owner.fetchval("select count(*) from lab.result_version") == 1


async def test_a_replay_says_why_a_message_cannot_be_decided(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    message_id = await bench.laboratory.owner.fetchval("select id from lab.message")
    bench.config.write_text(bench.config.read_text().replace('id = "bench"', 'id = "other"'))
    answer = await bench.run("message", "replay", str(message_id), str(UUID(int=7)), "--yes", "--as", "vera")
    assert answer.status == 1
    assert answer.err.splitlines()[:2] == [
        f"labora: {message_id}: the message's link is not in the configuration any more",
        f"labora: {UUID(int=7)}: there is no such message",
    ]


async def test_a_message_that_waits_for_the_worker_is_not_decided_beside_it(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.laboratory.send(message("P|1", "O|1|S1||^^^X|R", "R|1|^^^687|31|U/L||N||F"))
    message_id = str(await bench.laboratory.owner.fetchval("select id from lab.message"))
    answer = await bench.run("message", "replay", message_id, "--yes", "--as", "vera")
    assert (answer.status, "has not been decided yet" in answer.err) == (1, True)


async def test_a_replay_needs_a_user_and_says_which_messages(bench: Workbench) -> None:
    for arguments in (
        (),
        ("--unmapped", "X", str(UUID(int=1))),
        ("--unmapped", "X"),
        (str(UUID(int=1)), "--link", "x"),
    ):
        answer = await bench.run("message", "replay", *arguments, "--as", "vera")
        assert answer.status == 2, arguments
    assert (await bench.run("message", "replay", "--unmapped", "X", "--yes")).status == 2
    lab = bench.laboratory
    await lab.owner.execute("update lab.app_user set roles = '{viewer}' where username = 'vera'")
    answer = await bench.run("message", "replay", "--unmapped", "X", "--yes", "--as", "vera")
    assert (answer.status, answer.err) == (1, "labora: this needs the permission message:replay\n")


async def test_whose_data_a_replay_showed_is_audited(bench: Workbench) -> None:
    await bench.order("S1", "SER", "AST")
    await bench.receive("S1", "687|31|U/L")
    await bench.change("set", "687", "AST", *DRIVER)
    await replay(bench, "--unmapped", "687", "--dry-run")
    seen = await bench.laboratory.owner.fetchval(
        "select count(*) from lab.audit_event where action = 'disclose' and entity_kind = 'patient'"
    )
    assert seen == 1

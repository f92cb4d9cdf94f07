"""`labora message replay --dry-run --released`: what was released, looked at again by what is in force now."""

from __future__ import annotations

import pytest

from tests.cli.test_message_trial import TRY, released, tried
from tests.cli.workbench import Workbench
from tests.flow.rulebook import put_in_force


async def interval(bench: Workbench, *arguments: str) -> str:
    answer = await bench.run("interval", *arguments, "--as", "ada", "--reason", "because", "--json")
    assert answer.status == 0, answer.err
    id: str = answer.json["id"]
    return id


async def test_what_was_released_under_a_limit_that_was_wrong_is_found(bench: Workbench) -> None:
    wrong = await interval(bench, "add", "AFP", "--source", "mistyped", "--low", "0", "--high", "70", "--unit", "ug/L")
    await bench.order("S1", "SER", "AFP", "NA")
    await released(bench, "1834-1|15|ug/L", "2951-2|140|mmol/L")
    assert await tried(bench, "--released") == {}, "by what decided about them, they would be said as they were"
    ended = await bench.run("interval", "end", wrong, "--never", "--as", "ada", "--reason", "a zero too many")
    assert "labora message replay --since DATE --dry-run --released" in ended.err
    await interval(bench, "add", "AFP", "--source", "leaflet", "--low", "0", "--high", "7", "--unit", "ug/L")
    found = await tried(bench, "--released")
    assert list(found) == ["1834-1"]
    assert (found["1834-1"]["before"]["flags"], found["1834-1"]["after"]["flags"]) == (["N"], ["H"])
    assert found["1834-1"]["stays"]
    told = await bench.run(*TRY, "--released")
    assert "1 would be said otherwise, and stay as they are" in told.err


async def test_a_delta_to_what_was_corrected_since_is_found(bench: Workbench) -> None:
    await put_in_force(bench.laboratory)
    for day, (barcode, value) in enumerate((("S1", "1.0"), ("S2", "1.1")), 1):
        await bench.order(barcode, "SER", "CREA", day=day)
        await bench.receive(barcode, f"2160-0|{value}|mg/dL", control=barcode)
    results = {one.value: one for one in await bench.laboratory.results()}
    assert [one.status for one in results.values()] == ["final", "final"]
    assert await tried(bench, "--released") == {}
    given = ("--value", "3.0", "--comment", "another tube", "--as", "vera")
    corrected = await bench.run("result", "correct", str(results["1.0"].id), *given)
    later = results["1.1"].id
    said = f"look again: S2 CREA 1.1 mg/dL was compared with 1.0 mg/dL, which it is not any more (result {later})"
    assert said in corrected.err
    assert corrected.status == 0, corrected.err
    [found] = (await tried(bench, "--released")).values()
    assert (found["barcode"], found["after"]["held"], found["stays"]) == ("S2", ["delta"], True)


async def test_what_held_it_and_was_seen_by_a_person_is_not_told_again(bench: Workbench) -> None:
    await put_in_force(bench.laboratory)
    await bench.order("S1", "SER", "NA")
    await bench.receive("S1", "2951-2|60|mmol/L")
    [held] = await bench.laboratory.results()
    assert held.held
    seen = await bench.run("result", "release", str(held.id), "--accept-hold", "--comment", "dialysis", "--as", "vera")
    assert seen.status == 0, seen.err
    assert await tried(bench, "--released") == {}


@pytest.mark.parametrize(
    "arguments",
    [("--since", "2026-01-01", "--yes"), ("--unmapped", "687", "--dry-run"),
     ("--since", "2026-01-01", "--dry-run", "--rules", "default@1")],
)  # fmt: skip
async def test_it_is_only_shown(bench: Workbench, arguments: tuple[str, ...]) -> None:
    answer = await bench.run("message", "replay", *arguments, "--released", "--as", "vera")
    assert answer.status == 2
    assert "--released belongs to --dry-run" in answer.err


async def test_what_a_person_has_corrected_is_not_told_again(bench: Workbench) -> None:
    await put_in_force(bench.laboratory)
    await bench.order("S1", "SER", "CREA", "NA")
    await bench.receive("S1", "2160-0|1.0|mg/dL", "2951-2|140|mmol/L")
    creatinine, sodium = await bench.laboratory.results()
    for result, given in ((creatinine, ("correct", "--value", "3.0")), (sodium, ("comment",))):
        step, *more = given
        answer = await bench.run("result", step, str(result.id), *more, "--comment", "another tube", "--as", "vera")
        assert answer.status == 0, answer.err
    assert await tried(bench, "--released") == {}

"""Materials, lots, targets and lots in use over REST."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from interface.domain.permissions import Role
from tests.api.bench import Answer, Bench, Laboratory
from tests.api.qc_lots_use import NUMBERS, WHY, in_use, lot, made, target
from tests.qc_records import add_points


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.LABORATORY_DIRECTOR)


async def post(bench: Bench, token: str, path: str, **body: Any) -> Answer:
    return await bench.ask("POST", f"/api/{path}", token, json=body)


async def test_a_lot_with_its_targets_from_a_material_to_its_end(bench: Bench, token: str) -> None:
    answer = await post(bench, token, "qc-materials", name="Control", manufacturer="Maker", catalogue_number="C-1")
    assert (answer.status, answer.headers["Location"]) == (201, f"/api/qc-materials/{answer.json['id']}")
    lot_id = await made(bench, token, "qc-lots", lot("Control") | {"lot": "4711", "identifiers": ["QC1", "C*"]})
    [shown] = (await bench.get("/api/qc-lots?material=Control", token)).json["lots"]
    assert {name: shown[name] for name in ("id", "lot", "level", "identifiers", "analyzers", "version")} == {
        "id": lot_id, "lot": "4711", "level": "low", "identifiers": ["QC1", "C*"], "analyzers": [], "version": 1,
    }  # fmt: skip
    target_id = await made(bench, token, "qc-targets", target("4711/low") | {"mean": "12.10", "sd": "0.50"})
    assert b'"mean":12.10,"sd":0.50,' in (await bench.get(f"/api/qc-targets/{target_id}", token)).body
    replaced = await post(bench, token, f"qc-targets/{target_id}/replace", sd="0.4", **WHY)
    assert (replaced.status, replaced.json["sd"], replaced.json["valid_to"]) == (201, 0.4, None)
    listed = (await bench.get("/api/qc-targets?analyzer=hema&test=HGB&lot=4711", token)).json["targets"]
    assert [one["id"] for one in listed] == [replaced.json["id"]]
    everything = (await bench.get(f"/api/qc-lots/{lot_id}", token)).json
    assert [one["ended_by"] != "" for one in everything["targets"]] == [True, False]
    first = everything["targets"][0]
    then = first["valid_from"].replace("+", "%2B")
    [held] = (await bench.get(f"/api/qc-targets?at={then}", token)).json["targets"]
    assert held["id"] == target_id
    ended = await post(bench, token, f"qc-targets/{replaced.json['id']}/end", never=True, **WHY)
    assert ended.json["ended_at"] == ended.json["valid_from"]
    closed = await post(bench, token, f"qc-lots/{lot_id}/close", **WHY)
    assert closed.json["closed_at"] is not None
    assert (await bench.get("/api/qc-lots", token)).json["lots"] == []
    assert len((await bench.get("/api/qc-lots?closed=true", token)).json["lots"]) == 1
    assert (await post(bench, token, f"qc-lots/{lot_id}/reopen", **WHY)).json["closed_at"] is None
    changed = await bench.ask(
        "PATCH", f"/api/qc-lots/{lot_id}", token, json=WHY | {"expires_on": "2999-02-28", "version": 3}
    )
    assert (changed.json["expires_on"], changed.json["version"]) == ("2999-02-28", 4)
    assert (await bench.ask("PATCH", f"/api/qc-lots/{lot_id}", token, json=WHY | {"version": 3})).status == 409


async def test_a_lot_that_never_expires_has_targets_and_ends(bench: Bench, token: str) -> None:
    of = await made(bench, token, "qc-materials", {"name": "Everlasting"})
    lot_id = await made(bench, token, "qc-lots", lot(of) | {"expires_on": "9999-12-31"})
    target_id = await made(bench, token, "qc-targets", target(lot_id))
    shown = (await bench.get(f"/api/qc-targets/{target_id}", token)).json
    assert shown["lot_until"].startswith("9999-12-31T23:59:59")
    for body in ({"note": "x"}, {"expires_on": "2999-01-31"}, {"expires_on": "9999-12-31"}):
        answer = await bench.ask("PATCH", f"/api/qc-lots/{lot_id}", token, json=WHY | body)
        assert answer.status == 200, answer.body
    listed = (await bench.get(f"/api/qc-targets?lot={lot_id}", token)).json["targets"]
    assert [one["id"] for one in listed] == [target_id]
    for path in (f"qc-lots/{lot_id}/close", f"qc-lots/{lot_id}/reopen", f"qc-targets/{target_id}/end"):
        assert (await post(bench, token, path, **WHY)).status == 200, path


REFUSED: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("qc-materials", {}, 422, "name is missing"),
    ("qc-lots", {"material": "none", "lot": "1"}, 404, "there is no control material 'none'"),
    ("qc-lots", {"material": "none"}, 422, "lot is missing"),
    ("qc-lots", {"material": "none", "lot": "1", "expires_on": "soon"}, 422, "expires_on is not a date"),
    ("qc-targets", {}, 422, "mean is missing; sd is missing; lot is missing; analyzer is missing; test is missing"),
    ("qc-targets", target("4711") | {"mean": 12.0}, 422, 'mean is not a number written as text, such as "2.5"'),
    ("qc-targets", target("4711") | {"mean": "", "sd": ""}, 422, "mean is missing; sd is missing"),
    ("qc-targets", target("4711") | {"kind": "x"}, 422, "kind is none of fixed, cumulative"),
    ("qc-targets", target("4711"), 404, "there is no lot '4711'"),
    ("qc-targets/establish", {}, 422, "points is missing"),
    ("qc-targets/recompute", {"reason": " "}, 422, "this needs a reason"),
    ("analyzer-lots", {"analyzer": "hema", "lot": "R"}, 422, "kind is missing"),
    ("analyzer-lots", {"analyzer": "hema", "lot": "R", "kind": "soap"}, 422, "kind is none of reagent, calibrator"),
    ("qc-lots/import", {"file": "material,lot\n,1\nC,\n", "reason": "x"}, 422, "file:2: material: is missing; fi"),
    ("qc-lots/import", {"file": "a,b\n", "reason": "x"}, 422, "file:1: a: is no column"),
)  # fmt: skip


async def test_what_cannot_be_is_said_in_words(bench: Bench, token: str) -> None:
    for path, body, status, said in REFUSED:
        answer = await post(bench, token, path, **body)
        assert (answer.status, said in answer.json["detail"]) == (status, True), answer.body
        assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_a_new_lot_is_proposed_and_established(bench: Bench, laboratory: Laboratory, token: str) -> None:
    of = await made(bench, token, "qc-materials", {"name": "Control"})
    lot_id = await made(bench, token, "qc-lots", lot(of))
    await add_points(laboratory, UUID(lot_id), NUMBERS)
    place = {"lot": lot_id, "analyzer": "hema", "test": "HGB"}
    asked = "&".join(f"{name}={value}" for name, value in place.items())
    shown = (await bench.get(f"/api/qc-targets/proposal?{asked}", token)).json
    assert (shown["measured"]["points"], shown["measured"]["days"], shown["problems"]) == (20, 20, [])
    more = (await bench.get(f"/api/qc-targets/proposal?{asked}&fewest_points=21", token)).json
    assert more["problems"] == ["there are 20 points on 20 days, and at least 21 on 10 are wanted"]
    refused = await post(bench, token, "qc-targets/establish", points=20, fewest_points=21, **place, **WHY)
    assert refused.status == 409
    set_ = await post(bench, token, "qc-targets/establish", points=20, kind="cumulative", **place, **WHY)
    assert (set_.status, set_.json["mean"], set_.json["points"], set_.json["unit"]) == (201, 12.05, 20, "g/dL")
    assert (await post(bench, token, f"qc-targets/{set_.json['id']}/recompute", **WHY)).status == 409
    await add_points(laboratory, UUID(lot_id), ["12.2"])
    [again] = (await post(bench, token, "qc-targets/recompute", **WHY)).json["targets"]
    assert again["points"] == 21
    for bad in ("at=2026-01-01", "at=x", "analyzer=nobody", "test=NO", "lot=none"):
        assert (await bench.get(f"/api/qc-targets?{bad}", token)).status in (400, 404), bad


async def test_what_an_analyzer_uses_is_entered_listed_and_ended(bench: Bench, laboratory: Laboratory) -> None:
    await laboratory.user(Role.ADMINISTRATOR)
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    use_id = await made(bench, token, "analyzer-lots", in_use() | {"lot": "R1", "module": "M1"})
    [shown] = (await bench.get("/api/analyzer-lots?analyzer=hema&kind=reagent", token)).json["lots"]
    assert (shown["id"], shown["lot"], shown["module"], shown["test"]) == (use_id, "R1", "M1", "HGB")
    assert (await bench.get("/api/analyzer-lots?kind=calibrator", token)).json["lots"] == []
    ended = await post(bench, token, f"analyzer-lots/{use_id}/end", **WHY)
    assert (ended.status, ended.json["end_reason"]) == (200, "new lot")
    assert (await bench.get("/api/analyzer-lots", token)).json["lots"] == []
    assert len((await bench.get("/api/analyzer-lots?ended=true", token)).json["lots"]) == 1
    assert (await bench.get("/api/analyzer-lots?kind=soap", token)).status == 400


async def test_lots_go_out_as_a_file_and_come_back(bench: Bench, laboratory: Laboratory, token: str) -> None:
    text = (
        "material,lot,level,level_number,expires_on,identifiers,analyzer,test,unit,mean,low,high,range_sd\n"
        "Control,4711,low,1,2999-01-31,QC1;C*,hema,HGB,g/dL,12.0,11.0,13.0,2\n"
    )
    tried = await post(bench, token, "qc-lots/import", file="\ufeff" + text, dry_run=True, **WHY)
    assert tried.json == {"materials": 1, "lots": 1, "targets": 1, "known": 0}
    assert (await bench.get("/api/qc-materials", token)).json["materials"] == []
    assert (await post(bench, token, "qc-lots/import", file=text, **WHY)).json == tried.json
    answer = await bench.get("/api/qc-lots/export", token)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    again = await post(bench, token, "qc-lots/import", file=answer.body.decode(), **WHY)
    assert again.json == {"materials": 0, "lots": 0, "targets": 0, "known": 1}
    [held] = (await bench.get("/api/qc-targets", token)).json["targets"]
    assert (held["sd"], held["source"]) == (0.5, "manufacturer")

"""Controls' results over REST: entered, found by what they are, explained, excluded; and who may do what."""

from __future__ import annotations

from interface.domain.permissions import Role
from tests.api.bench import Bench, Laboratory
from tests.api.qc_lots_use import lot, made, material, target
from tests.api.qc_results_use import REASON, entered, waiting


async def test_a_control_is_entered_found_explained_and_excluded(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    of = await made(bench, token, "qc-materials", material())
    lot_id = await made(bench, token, "qc-lots", lot(of))
    await made(bench, token, "qc-targets", target(lot_id))
    ids = []
    for value in ("12.1", "13.6"):
        body = {"analyzer": "hema", "test": "HGB", "lot": lot_id, "value": value, "comment": "by hand"}
        answer = await bench.ask("POST", "/api/qc-results", token, json=body)
        assert answer.status == 201, answer.body
        ids.append(answer.json["id"])
    (bad,) = (await bench.get("/api/qc-results?verdict=reject", token)).json["qc-results"]
    assert (bad["id"], bad["point"]["z"], bad["point"]["rules"]) == (ids[1], 3.2, ["1-3s"])
    explained = (await bench.get(f"/api/qc-results/{ids[1]}", token)).json
    assert [one["step"] for one in explained["point"]["steps"]] == [
        "recognise", "unit", "target", "z", "run", "rules"
    ]  # fmt: skip
    first = (await bench.get("/api/qc-results?limit=1&lot=" + lot_id, token)).json
    assert [one["id"] for one in first["qc-results"]] == [ids[1]]
    second = (await bench.get(first["next"], token)).json
    assert ([one["id"] for one in second["qc-results"]], second["next"]) == ([ids[0]], None)
    gone = await bench.ask("POST", f"/api/qc-results/{ids[1]}/exclude", token, json=REASON)
    assert (gone.status, gone.json["point"]["exclude_reason"]) == (200, "air bubble")
    found = (await bench.get("/api/qc-results/analysis?test=HGB&lot=" + lot_id, token)).json["analysis"]
    assert [(one["n"], one["mean"], one["bias"]) for one in found] == [(1, 12.1, 0.83)]


async def test_what_waits_for_a_person_is_listed_and_assigned(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    known = await entered(bench, token)
    id = str(await waiting(laboratory))
    listed = (await bench.get("/api/qc-results?problems=true", token)).json["qc-results"]
    assert [(one["id"], one["problem"]["kind"]) for one in listed] == [(id, "unknown_control")]
    body = {"lot": known["lot_id"], "reason": "labelled by hand"}
    made_ = await bench.ask("POST", f"/api/qc-results/{id}/assign", token, json=body)
    assert (made_.status, made_.json["point"]["lot_id"]) == (200, known["lot_id"])
    assert (await bench.get("/api/qc-results?problems=true", token)).json["qc-results"] == []


async def test_who_only_reads_changes_nothing(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    known = await entered(bench, token)
    viewer = await laboratory.user_token(Role.VIEWER)
    assert (await bench.get("/api/qc-results", viewer)).status == 200
    for path, body in (("", {}), (f"/{known['id']}/exclude", REASON), (f"/{known['id']}/comment", {"text": "x"})):
        assert (await bench.ask("POST", f"/api/qc-results{path}", viewer, json=body)).status == 403

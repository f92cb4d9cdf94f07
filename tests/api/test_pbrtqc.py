"""Patient-based quality control over HTTP: the way of a plan, and who may do what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from interface.api import pbrtqc
from interface.domain.permissions import Role
from tests.api.bench import Bench, Laboratory
from tests.api.pbrtqc_use import BY_HAND, PERIOD, PLAN, alarm, patients_of
from tests.flow.patients import healthy


@pytest.fixture
async def director(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.LABORATORY_DIRECTOR)


async def ask(bench: Bench, token: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = await bench.ask("POST", f"/api/pbrtqc{path}", token, json=body)
    assert answer.status == status, answer.body
    return answer.json


async def test_a_plan_goes_from_its_training_to_an_alarm(bench: Bench, laboratory: Laboratory, director: str) -> None:
    patients = await patients_of(laboratory.database, laboratory.organization_id)
    await patients.measure(healthy(20, 24))
    made = await ask(bench, director, "", 201, **PLAN)
    assert (made["version"], made["mode"], made["validation"]) == ("hgb@1", "", None)
    assert made["plan"]["training"]["results"] == 288 and made["plan"]["goals"][0]["bias"] == "25%"
    refused = await ask(bench, director, "/hgb@1/activate", 409, mode="hold", reason="go")
    assert "it has not been validated" in refused["detail"]
    tried = await ask(bench, director, "/hgb@1/simulate", **PERIOD, biases=["1SD", "-3%"], seed=5)
    assert [one["bias"] for one in tried["biases"]] == ["+1SD", "-3%"]
    assert (tried["kept"], tried["met"], tried["seed"]) == (False, None, 5)
    done = await ask(bench, director, "/hgb@1/validate", **PERIOD)
    assert (done["kept"], done["met"], done["unmet"], done["results"]) == (True, True, [], 192)
    used = await ask(bench, director, "/hgb@1/activate", mode="hold", reason="go")
    assert (used["mode"], used["void"]) == ("hold", "")
    event = await alarm(patients, datetime.fromisoformat(used["since"]))
    status = (await bench.get("/api/pbrtqc/status", director)).json["status"]
    assert [(one["version"], one["alarm"], one["gates"], one["inside"]) for one in status] == [
        ("hgb@1", str(event), True, False)
    ]
    chart = (await bench.get("/api/pbrtqc/hgb@1/chart-data?to=2099-01-01&from=2026-01-01", director)).json
    assert len(chart["values"]) == 30 and chart["values"][18]["statistic"] is None
    assert float(chart["values"][29]["statistic"]) == 30 and [one["kind"] for one in chart["events"]] == ["alarm"]
    newest = (await bench.get("/api/pbrtqc/hgb@1/chart-data?values=2&to=2099-01-01&from=2026-01-01", director)).json
    assert [one["value"] for one in newest["values"]] == [29, 30]
    assert "gates" in (await ask(bench, director, "/hgb@1/deactivate", 409, reason="r"))["detail"]
    technologist = await laboratory.user_token(Role.TECHNOLOGIST)
    closed = await ask(bench, technologist, f"/alarms/{event}/close", reason="recalibrated")
    assert (closed["kind"], closed["alarm"]) == ("closed", str(event))
    await ask(bench, technologist, f"/alarms/{event}/close", 409, reason="again")
    listed = (await bench.get("/api/pbrtqc/alarms?name=hgb", director)).json["alarms"]
    assert [one["kind"] for one in listed] == ["closed", "alarm"]
    assert (await ask(bench, director, "/hgb@1/deactivate", reason="no more"))["mode"] == ""
    await ask(bench, director, "/hgb@1/deactivate", 409, reason="no more")
    whole = (await bench.get("/api/pbrtqc/hgb@1", director)).json
    assert whole["validation"]["met"] is True and whole["validation"]["biases"] == done["biases"]
    assert [one["version"] for one in (await bench.get("/api/pbrtqc?name=hgb", director)).json["plans"]] == ["hgb@1"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("", BY_HAND | {"reason": " "}, 422, "say why"),
        ("", BY_HAND | {"method": None}, 422, "method is missing"),
        ("", BY_HAND | {"method": {"statistic": "mode", "block": 20}}, 422, "method.statistic is none of mean"),
        (
            "",
            BY_HAND | {"method": {"statistic": "mean", "block": 20, "lambda": "1"}},
            422,
            "method.lambda is not known",
        ),
        ("", BY_HAND | {"limits": {"low": "", "centre": "13.5", "high": "14"}}, 422, "limits.low is missing"),
        ("", BY_HAND | {"limits": {"low": 13.5, "high": "14"}}, 422, "limits.low is not a number written as text"),
        ("", BY_HAND | {"test": "NOSUCH"}, 422, "no test 'NOSUCH'"),
        ("", BY_HAND | {"goals": [{"name": "a", "bias": "ten"}]}, 422, "bias is not a bias such as 10%"),
        ("", PLAN, 422, "the training period has too little: 0 results can be counted"),
        ("/hgb@9/activate", {"mode": "watch", "reason": "r"}, 404, "there is no plan hgb@9"),
        ("/hgb@x/activate", {"mode": "watch", "reason": "r"}, 404, ""),
        ("/hgb@1/activate", {"reason": "r"}, 422, "mode is missing"),
        ("/hgb@1/simulate", {"from": "2026-01-01", "to": "2026-02-01"}, 422, "from has no time zone"),
        ("/alarms/00000000-0000-7000-8000-000000000000/close", {"reason": "r"}, 404, "there is no such alarm"),
    ],
)
async def test_what_is_refused(
    bench: Bench, laboratory: Laboratory, director: str, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    await patients_of(laboratory.database, laboratory.organization_id)
    assert said in (await ask(bench, director, path, status, **body))["detail"]


async def test_the_server_takes_no_simulation_that_would_keep_it(
    bench: Bench, laboratory: Laboratory, director: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await patients_of(laboratory.database, laboratory.organization_id)
    await ask(bench, director, "", 201, **BY_HAND)
    monkeypatch.setattr(pbrtqc, "MOST_STEPS", 100)
    refused = await ask(bench, director, "/hgb@1/validate", 422, **PERIOD)
    assert "100 runs of 100 patients for 2 biases are more than 100 steps" in refused["detail"]


async def test_who_may_do_what(bench: Bench, laboratory: Laboratory, director: str) -> None:
    await patients_of(laboratory.database, laboratory.organization_id)
    await ask(bench, director, "", 201, **BY_HAND)
    technologist, viewer = [await laboratory.user_token(role) for role in (Role.TECHNOLOGIST, Role.VIEWER)]
    emr = await laboratory.client_token("system/*.*")
    steps = ("", "/hgb@1/activate", "/hgb@1/validate", "/hgb@1/simulate", "/hgb@1/deactivate")
    for token in (technologist, viewer, emr):
        for path in steps:
            await ask(bench, token, path, 403, reason="r")
    for path in ("", "/status", "/alarms", "/hgb@1", "/hgb@1/chart-data"):
        for token, status in ((viewer, 200), (emr, 403)):
            assert (await bench.get(f"/api/pbrtqc{path}", token)).status == status, path
    await ask(bench, viewer, "/alarms/00000000-0000-7000-8000-000000000000/close", 403, reason="r")

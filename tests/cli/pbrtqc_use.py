"""Each command of `labora qc pbrtqc` with something it can do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tests.api.pbrtqc_use import PROVED, TRAINED, alarm
from tests.cli.desk import Shell
from tests.flow.patients import BEGIN, Patients, healthy

BY, WHY = ("--as", "dora"), ("--as", "dora", "--reason", "because")
TRAINING = ("--from", f"{BEGIN:%Y-%m-%d}", "--to", f"{TRAINED:%Y-%m-%d}", "--rate", "0.5")
PERIOD = ("--from", f"{TRAINED:%Y-%m-%d}", "--to", f"{PROVED:%Y-%m-%d}", "--runs", "100")
METHOD = ("--analyzer", "hema", "--test", "HGB", "--statistic", "mean", "--block", "20")
WANTED = ("--horizon", "100", "--most-false-alarms", "5", "--goal", "tea 25% undetected=0.1")
PLAN = ("hgb", *METHOD, *TRAINING, *WANTED, *WHY)


async def pbrtqc_arguments(shell: Shell, name: str, folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The commands' arguments, once what `name` needs is there. `dora` is there already."""
    patients, event = Patients(shell.laboratory), ""
    await patients.measure(healthy(20, 24))
    if name != "qc pbrtqc plan":
        assert (await shell.run("qc", "pbrtqc", "plan", *PLAN)).status == 0
    if name in ("qc pbrtqc deactivate", "qc pbrtqc close", "qc pbrtqc status", "qc pbrtqc alarms"):
        used = await shell.run("qc", "pbrtqc", "activate", "hgb@1", *WHY, "--json")
        assert used.status == 0, used.err
        if name == "qc pbrtqc close":
            event = str(await alarm(patients, datetime.fromisoformat(used.json["since"])))
    return {
        f"qc pbrtqc {command}": arguments
        for command, arguments in {
            "plan": PLAN, "list": (), "show": ("hgb",), "simulate": ("hgb", *PERIOD, "--bias", "10%"),
            "validate": ("hgb@1", *PERIOD, *BY), "activate": ("hgb@1", *WHY), "deactivate": ("hgb", *WHY),
            "status": (), "alarms": (), "close": (event, *WHY), "chart-data": ("hgb@1",),
        }.items()
    }  # fmt: skip

"""Each command of `labora qc` with something it can do, for tests that run all commands there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from interface.domain.model import ResultStatus
from interface.domain.permissions import Role
from interface.store.actors import insert_user
from tests.api.qc_results_use import waiting
from tests.cli.desk import Shell, _digest
from tests.cli.pbrtqc_use import pbrtqc_arguments
from tests.cli.qc_lots_use import lot_arguments, reagent_arguments, target_arguments
from tests.qc_failing import looked_back_at
from tests.qc_records import add_lot

DORA, VERA = ("--as", "dora"), ("--as", "vera")  # a director, who may everything of quality control; a technologist
Maker = Callable[[Shell, str, Path], Awaitable[Mapping[str, tuple[str, ...]]]]

# By noun or by the whole name: what makes the arguments of the commands there, once what must be there before is.
MAKERS: dict[str, Maker] = {
    "material": lot_arguments,
    "lot": lot_arguments,
    "target": target_arguments,
    "reagent": reagent_arguments,
    "pbrtqc": pbrtqc_arguments,
}


async def _peers(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    file = folder / "peers.csv"
    file.write_text("lot,level,test,peer_group,period,mean,sd\n4711,low,HGB,all,2026-11,12,0.4\n", encoding="utf-8")
    await add_lot(shell.laboratory)
    return {
        "qc peer import": (str(file), "--reason", "report", *DORA),
        "qc peer list": (),
        "qc peer compare": ("--period", "2026-11"),
        "qc peer export": ("--period", "2026-11"),
    }


async def _results(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    lot, why = await add_lot(shell.laboratory), ("--reason", "air bubble")
    entered = await shell.run("qc", "result", "enter", "hema", "HGB", "4711/low", "12.1", *VERA, "--json")
    assert entered.status == 0, entered.err
    id = str(entered.json["id"])
    waits = str(await waiting(shell.laboratory)) if name in ("qc result assign", "qc result dismiss") else ""
    if name == "qc result restore":
        await shell.run("qc", "result", "exclude", id, *why, *VERA)
    return {
        "qc result list": (), "qc result show": (id,), "qc result analysis": (),
        "qc result enter": ("hema", "HGB", str(lot.id), "12.2", *VERA), "qc result exclude": (id, *why, *VERA),
        "qc result restore": (id, *why, *VERA), "qc result dismiss": (waits, *why, *VERA),
        "qc result assign": (waits, "4711", *why, *VERA), "qc result comment": (id, "new bottle", *VERA),
    }  # fmt: skip


MAKERS["peer"] = _peers
MAKERS["result"] = _results


async def _gate(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    lookback_id = ""
    if name in ("qc lookback show", "qc lookback decide"):
        result_id = await shell.laboratory.result(await shell.laboratory.order(), status=ResultStatus.FINAL)
        lookback_id = str(await looked_back_at(shell.laboratory, result_id))
    if name == "qc plan end":
        await shell.run("qc", "plan", "set", "--test", "HGB", *DORA)
    return {
        "qc status": (),
        "qc action add": ("HGB", "new tubing", "--analyzer", "hema", "--kind", "comment", *DORA),
        "qc action list": (),
        "qc lookback list": (),
        "qc lookback show": (lookback_id,),
        "qc lookback decide": (lookback_id, "stands", "--reason", "compared", *DORA),
        "qc plan list": (),
        "qc plan set": ("--test", "HGB", "--every", "480", *DORA),
        "qc plan end": ("--test", "HGB", *DORA),
    }


MAKERS.update(dict.fromkeys(("status", "action", "lookback", "plan"), _gate))


async def _pictures(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    return {
        "qc chart": ("HGB", "--analyzer", "hema", "-o", str(folder / "chart.svg")),
        "qc report": ("--month", "2026-11", "-o", str(folder / "november.pdf")),
    }


MAKERS.update(dict.fromkeys(("chart", "report"), _pictures))


async def add_director(shell: Shell) -> None:
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await insert_user(connection, shell.organization.id, "dora", "", _digest[0], (Role.LABORATORY_DIRECTOR.value,))


async def qc_arguments(shell: Shell, name: str, folder: Path) -> dict[str, tuple[str, ...]]:
    """The arguments of a command of `labora qc`; nothing for others."""
    if not name.startswith("qc "):
        return {}
    maker = MAKERS.get(name.removeprefix("qc ")) or MAKERS[name.split()[1]]
    await add_director(shell)
    return {name: (await maker(shell, name, folder))[name]}

"""Each command about materials, lots, targets and lots in use with something it can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from tests.cli.desk import Shell
from tests.qc_records import add_points

DORA, VERA = ("--as", "dora"), ("--as", "vera")  # a director; a technologist
WHY = ("--reason", "new lot")
PLACE = ("--analyzer", "hema", "--test", "HGB")
LIMITS = ("--mean", "12.0", "--sd", "0.5", "--unit", "g/dL")


async def made(shell: Shell, *arguments: str) -> str:
    """The id of what a command makes."""
    answer = await shell.run(*arguments, "--json")
    assert answer.status == 0, answer.err
    return str(answer.json["id"])


async def lot_arguments(shell: Shell, name: str, folder: Path) -> Mapping[str, tuple[str, ...]]:
    """`qc material …` and `qc lot …`."""
    await made(shell, "qc", "material", "create", "Control", *DORA)
    await made(shell, "qc", "lot", "create", "Control", "4711", "--level", "low", *DORA)
    by = (*WHY, *DORA)
    if name in ("qc material close", "qc material reopen", "qc lot reopen"):
        await shell.run("qc", "lot", "close", "4711", *by)
    if name == "qc material reopen":
        await shell.run("qc", "material", "close", "Control", *by)
    file = folder / "lots.csv"
    file.write_text("material,lot\nOther,1\n")
    return {
        "qc material list": (), "qc material show": ("Control",), "qc material create": ("Other", *DORA),
        "qc material change": ("Control", "--note", "frozen", *by), "qc material close": ("Control", *by),
        "qc material reopen": ("Control", *by), "qc lot list": (), "qc lot show": ("4711/low",),
        "qc lot create": ("Control", "4712", *DORA), "qc lot change": ("4711", "--note", "x", *by),
        "qc lot close": ("4711", *by), "qc lot reopen": ("4711", *by), "qc lot import": (str(file), *by),
        "qc lot export": (),
    }  # fmt: skip


async def target_arguments(shell: Shell, name: str, folder: Path) -> Mapping[str, tuple[str, ...]]:
    """`qc target …`."""
    await lot_arguments(shell, "", folder)
    by = (*WHY, *DORA)
    lot = await shell.run("qc", "lot", "show", "4711", "--json")
    target = ""
    if name not in ("qc target set", "qc target establish"):
        target = await made(shell, "qc", "target", "set", "4711", *PLACE, *LIMITS, "--kind", "cumulative", *by)
    if name in ("qc target establish", "qc target recompute"):
        await add_points(shell.laboratory, UUID(lot.json["lot"]["id"]), ["12.0", "12.1"] * 10)
    return {
        "qc target list": (), "qc target show": (target,), "qc target set": ("4711", *PLACE, *LIMITS, *by),
        "qc target change": (target, "--sd", "0.4", *by), "qc target end": (target, *by),
        "qc target recompute": (target, *by), "qc target establish": ("4711", *PLACE),
    }  # fmt: skip


async def reagent_arguments(shell: Shell, name: str, folder: Path) -> Mapping[str, tuple[str, ...]]:
    """`qc reagent …`."""
    use = "" if name != "qc reagent end" else await made(shell, "qc", "reagent", "set", "hema", "R1", *VERA)
    return {
        "qc reagent list": (), "qc reagent set": ("hema", "R2", *VERA), "qc reagent end": (use, *WHY, *VERA),
    }  # fmt: skip

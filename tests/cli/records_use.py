"""Something each command about people, the catalogue, specimens and worksheets can be run with."""

from __future__ import annotations

from tests.cli.desk import Shell
from tests.cli.dispatch_use import dispatch_arguments

VERA, ADA = ("--as", "vera"), ("--as", "ada")
WHY = ("--reason", "because")
LIMITS = ("--source", "our own study", "--low", "12", "--high", "15.5", "--unit", "g/dL")


async def _made(shell: Shell, *arguments: str) -> str:
    """The id of what a command makes."""
    answer = await shell.run(*arguments, "--json")
    assert answer.status == 0, answer.err
    return str(answer.json["id"])


async def _person(shell: Shell, family: str) -> str:
    return await _made(shell, "patient", "create", "--family", family, *VERA)


async def people_arguments(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """`patient …` and `provider …`."""
    one, other = await _person(shell, "Muster"), await _person(shell, "Muster-Neu")
    provider = await _made(shell, "provider", "create", "--family", "Arzt", *ADA)
    if name == "patient unmerge":
        await shell.run("patient", "merge", one, other, *WHY, *VERA)
    return {
        "patient create": ("--family", "Neu", *VERA),
        "patient list": (),
        "patient show": (one,),
        "patient update": (one, "--family", "Anders", *VERA),
        "patient merge": (one, other, *WHY, *VERA),
        "patient unmerge": (one, *WHY, *VERA),
        "patient duplicates": (one,),
        "provider create": ("--family", "Neu", *ADA),
        "provider list": (),
        "provider show": (provider,),
        "provider update": (provider, "--role", "surgeon", *ADA),
    }


async def catalogue_arguments(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """`test …`, `panel …`, `specimen-type …` and `interval …`."""
    by = (*WHY, *ADA)
    interval = ""
    if name in ("interval change", "interval end"):
        interval = await _made(shell, "interval", "add", "HGB", *LIMITS, *by)
    if name == "test deactivate":  # one that no panel has
        await shell.run("test", "set", "OURS", "--name", "Ours", "--unit", "mg/dL", *by)
    return {
        "test list": (),
        "test show": ("HGB",),
        "test set": ("HGB", "--department", "other", *by),
        "test deactivate": ("OURS", *by),
        "panel list": (),
        "panel set": ("OURS", "--name", "Ours", "--test", "HGB", *by),
        "panel deactivate": ("CBC", *by),
        "specimen-type list": (),
        "specimen-type set": ("CORD", "--name", "Cord blood", *by),
        "interval list": (),
        "interval add": ("HGB", *LIMITS, *by),
        "interval change": (interval, "--high", "16", *by),
        "interval end": (interval, "--never", *by),
    }


async def bench_arguments(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """`specimen …`, `worksheet …`, and what is changed in an order."""
    made = await shell.run("order", "create", "--test", "HGB", "--family", "Muster", *VERA, "--json")
    number, barcode = made.json["number"], made.json["items"][0]["barcode"]
    if name == "specimen retime":
        await shell.run("specimen", "collect", barcode, *VERA)
    if name not in ("specimen collect", "specimen receive"):
        await shell.run("specimen", "receive", barcode, *VERA)
    if name == "specimen reinstate":
        await shell.run("specimen", "reject", barcode, "--reason", "clotted", *VERA)
    if name in ("specimen dispose", "specimen exhaust"):
        await shell.run("order", "cancel", number, *WHY, *VERA)
    sheet = ""
    if name.startswith("worksheet") and name not in ("worksheet build", "worksheet waiting"):
        sheet = (await shell.run("worksheet", "build", "--test", "HGB", *VERA, "--json")).json["number"]
    return {
        "specimen list": (),
        "specimen show": (barcode,),
        "specimen collect": (barcode, *VERA),
        "specimen retime": (barcode, "--at", "2026-01-05T08:00:00", *WHY, *VERA),
        "specimen receive": (barcode, *VERA),
        "specimen reject": (barcode, "--reason", "clotted", *VERA),
        "specimen reinstate": (barcode, *WHY, *VERA),
        "specimen exhaust": (barcode, *VERA),
        "specimen dispose": (barcode, *VERA),
        "specimen move": (barcode, "--rack", "R1", *VERA),
        "specimen aliquot": (barcode, *VERA),
        "specimen label": (barcode,),
        "order add": (number, "--test", "WBC", *VERA),
        "order cancel": (number, *WHY, *VERA),
        "order change": (number, "--priority", "stat", *VERA),
        "order replace": (number, "--test", "WBC", *WHY, *VERA),
        "worksheet waiting": (),
        "worksheet build": ("--test", "HGB", *VERA),
        "worksheet show": (sheet,),
        "worksheet enter": (sheet, "1=13.5", *VERA),
        "worksheet complete": (sheet, "--unmeasured", "too little", *VERA),
    }


MAKERS = {
    "patient": people_arguments, "provider": people_arguments, "test": catalogue_arguments,
    "panel": catalogue_arguments, "specimen-type": catalogue_arguments, "interval": catalogue_arguments,
    "specimen": bench_arguments,
    "worksheet": bench_arguments, "order add": bench_arguments, "order cancel": bench_arguments,
    "order change": bench_arguments, "order replace": bench_arguments,
    "dispatch": dispatch_arguments,
}  # fmt: skip


async def record_arguments(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """The arguments of a command of these nouns; nothing for others."""
    maker = MAKERS.get(name) or MAKERS.get(name.split()[0])
    return {} if maker is None else {name: (await maker(shell, name))[name]}

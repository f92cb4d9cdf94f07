"""`docs/reference/`: pages made of the code, so that they are true. `python -m tests.docs.reference` writes them.

CLI of the commands themselves, metrics of the registry, errors of their tree, drivers of their manifests.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from interface import cli, errors, telemetry
from interface.domain.model import HoldReason
from interface.domain.review import HOLDS, WHEN
from interface.driver import registry
from interface.driver.manifest import Driver, Feature
from tests.docs.keys import keys

FOLDER: Final = Path(__file__).parents[2] / "docs" / "reference"
_MADE: Final = "<!-- Made of the code by `python -m tests.docs.reference`; change the code, not this page. -->"


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _MADE, *parts)) + "\n"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


# ---- the command line -----------------------------------------------------------------------------------------------


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(child, click.Context(child, info_name=name, parent=context))


def _command(command: click.Command, context: click.Context) -> str:
    depth = len(context.command_path.split())
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    said = "\n\n".join(f"```text\n{one[2:]}\n```" if one.startswith("\b\n") else one for one in paragraphs)
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    records = [parameter.get_help_record(context) for parameter in command.params]
    options = [(f"`{one[0]}`", " ".join(one[1].split())) for one in records if one and not one[0].startswith("--help")]
    parts = [f"{'#' * min(depth + 1, 4)} {context.command_path}", said, f"`{usage}`"]
    if options:
        parts.append(_table(("option", "meaning"), options))
    if isinstance(command, click.Group):
        rows = [
            (f"`{name}`", child.get_short_help_str(300))
            for name in command.list_commands(context)
            if (child := command.get_command(context, name)) is not None
        ]
        parts.append(_table(("command", "what it does"), rows))
    if command.epilog:
        parts.append(" ".join(command.epilog.split()))
    return "\n\n".join(part for part in parts if part)


def command_line() -> str:
    """Every command with its options."""
    context = click.Context(cli.labora, info_name="labora", terminal_width=10_000, max_content_width=10_000)
    found = [_command(command, at) for command, at in _commands(cli.labora, context)]
    return _page("Commands", *found)


# ---- config.toml ----------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Every key that the parser asks for."""
    rows = [(f"`{path}`", kind, f"`{default}`" if default not in ("", "required") else default)
            for path, kind, default in keys()]  # fmt: skip
    said = (
        "`config.toml` as its parser asks for it; keys of a `[[link]]` stand below `link`."
        " [configuration.md](../configuration.md) says what each means, also where it is left out."
    )
    return _page("Settings", said, _table(("key", "what it is", "default"), rows))


# ---- metrics --------------------------------------------------------------------------------------------------------


def series() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and meaning of every metric there can be."""
    for collector in dict.fromkeys(telemetry.REGISTRY._collector_to_names):
        labels: Sequence[str] = getattr(collector, "_labelnames", ()) or getattr(collector, "_labels", ())
        for family in collector.collect():
            yield family.name, family.type, tuple(labels), family.documentation
    for name, meaning, labels in telemetry.GAUGES.values():
        yield name, "gauge", labels, meaning


def metrics() -> str:
    rows = [
        (f"`{name}`", type, ", ".join(f"`{label}`" for label in labels), meaning)
        for name, type, labels, meaning in sorted(series())
    ]
    said = "`GET /metrics`, OpenMetrics. A counter ends with `_total`, a histogram with `_bucket`, `_sum`, `_count`."
    return _page("Metrics", said, _table(("metric", "type", "labels", "meaning"), rows))


# ---- errors and reasons ---------------------------------------------------------------------------------------------


def _tree(of: type[errors.LaboraError], depth: int = 0) -> Iterator[tuple[type[errors.LaboraError], int]]:
    yield of, depth
    for child in sorted(of.__subclasses__(), key=lambda one: one.__name__):
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def error_tree() -> str:
    rows = [
        (f"{'&nbsp;' * 4 * depth}{one.__name__}", f"`{one.slug}`", " ".join((one.__doc__ or "").split()))
        for one, depth in _tree(errors.LaboraError)
    ]
    tree = (errors.__doc__ or "").partition("\n\n")[2].rstrip()
    return _page(
        "Errors", "What becomes of each, by class:", f"```text\n{tree}\n```",
        _table(("class", "slug", "what it is"), rows),
        "Why a result is held, as it stands in `held`:", ", ".join(f"`{one}`" for one in HoldReason) + ".",
    )  # fmt: skip


# ---- what waits ------------------------------------------------------------------------------------------------------

_SOURCES = Path(__file__).parents[2] / "interface"
_SAYS = {"_against", "_with_others", "off", "evaluated"}  # functions whose words say why nothing is released


def _words(node: ast.AST, names: Mapping[str, str]) -> str:
    """A text as it stands in the source; "" where it is none. What is put in is shown as …."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    if isinstance(node, ast.BoolOp):
        return _words(node.values[-1], names)
    return _words(node.body, names) if isinstance(node, ast.IfExp) else ""


def _said_against(tree: ast.Module) -> Iterator[str]:
    """What a module says keeps a result from being released though nothing holds it."""
    names = {
        one.targets[0].id: one.value.value for one in tree.body
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = [one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in node.targets]
            if "blocked" in targets:
                yield _words(node.value, names)
        elif isinstance(node, ast.FunctionDef) and node.name in _SAYS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield _words(inner.value, names)
                elif isinstance(inner, ast.Call):
                    called = inner.func.attr if isinstance(inner.func, ast.Attribute) else getattr(inner.func, "id", "")
                    place = {"append": 0, "_waiting": 1}.get(called)
                    if place is not None and place < len(inner.args):
                        yield _words(inner.args[place], names)


def holds() -> str:
    """Every reason to hold, and everything else that leaves a result to a person."""
    rows = [
        (f"`{one}`", WHEN[one], "yes" if HOLDS[one].acceptable else "no", HOLDS[one].words) for one in HoldReason
    ]  # fmt: skip
    rooms = [*sorted((_SOURCES / "flow").glob("*.py")), *sorted((_SOURCES / "domain").glob("*.py"))]
    said = [text for room in rooms for text in _said_against(ast.parse(room.read_text(encoding="utf-8"))) if text]
    return _page(
        "What keeps a result from being released",
        "Held (`held` of a result; state `registered`): nobody sees it outside the laboratory until its cause is\n"
        "mended, or a person who may accepts it with a comment.",
        _table(("reason", "what is so", "may be accepted", "what helps, or what accepting it says"), rows),
        "Not held, and yet no rule releases it (state `preliminary`). Its explanation says `waits for a person:`\n"
        "with one or more of these, where … is a name or a word:",
        "\n".join(f"* {text}" for text in sorted(dict.fromkeys(said))),
        "`labora trace BARCODE` shows it of each result; [rules.md](../rules.md) says what must be so.",
    )


# ---- drivers --------------------------------------------------------------------------------------------------------


def _support(driver: Driver) -> tuple[str, ...]:
    asks = Feature.QUERY not in driver.lacks and driver.query.specimen_id != ()
    kinds = (("answers queries", asks), ("worklists", driver.download), ("LAW", driver.law))
    two_way = [word for word, has in kinds if has]
    return (
        f"`{driver.id}`", driver.title, str(driver.tier), str(driver.protocol), str(len(driver.codes)),
        ", ".join(two_way) or "results only", ", ".join(sorted(driver.lacks)),
        driver.document or "; ".join(driver.evidence)[:200],
    )  # fmt: skip


def drivers() -> str:
    """A support statement of every driver that comes with Labora."""
    heads = ("driver", "analyzer", "known by", "protocol", "codes", "two-way", "cannot", "document or capture")
    return _page(
        "Drivers",
        "What each driver knows, and from what. `simulated`: from the vendor's document; `captured`: from"
        " recorded bytes; `site-validated`: a laboratory has compared."
        " `labora driver show ID` says what of it nobody could check.",
        _table(heads, [_support(one) for one in registry.find_all([])]),
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": command_line, "configuration.md": configuration, "metrics.md": metrics, "errors.md": error_tree,
    "drivers.md": drivers, "holds.md": holds,
}  # fmt: skip

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")

"""Compiled rooms run only where they are what the sources say, and say the same as these."""

from __future__ import annotations

import gc
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import interface
from interface.compiled import FOLDER, LIBRARY, MANIFEST, PURE, Finder, Manifest, digest, hints, install, read_manifest
from interface.domain import model, rule_bench
from interface.driver import registry
from tests.bench.messages import hl7_message, lis2_message
from tests.domain import test_rule_bench
from tests.domain.cases import rules
from tests.sources import from_sources

ROOT = Path(interface.__file__).parent.parent
HEADERS = Path(sys.base_prefix, "include", f"python{sys.version_info.major}.{sys.version_info.minor}", "Python.h")


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    """scripts/compile_rooms.py, as a module's names; what it does to its own process is undone at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PURE, os.environ.get(PURE, ""))
        patch.setattr(sys, "path", [*sys.path])
        return runpy.run_path(str(ROOT / "scripts" / "compile_rooms.py"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One source and a library of it that no Python can load."""
    monkeypatch.delenv(PURE, raising=False)
    finders = sys.meta_path[:]
    (tmp_path / "rule.py").write_text("LIMIT = 5\n")
    made = Manifest("k1", "mypy 1", ("rule",), {"rule.py": digest(b"LIMIT = 5\n")})
    library = made.library(tmp_path)
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    (tmp_path / FOLDER / MANIFEST).write_text(made.text())
    assert read_manifest(tmp_path) == made
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, LIBRARY, raising=False)
        patch.setattr(sys, "meta_path", [one for one in finders if not isinstance(one, Finder)])
        yield tmp_path
        assert not any(isinstance(one, Finder) for one in sys.meta_path), "left where it may not be used"


def test_a_library_that_cannot_be_loaded_is_left_alone(checkout: Path) -> None:
    assert install(checkout).startswith("cannot be loaded: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "rule.py").write_text("LIMIT = 6\n"), "rule.py was changed since"),
        (lambda root: (root / "rule.py").write_text("LIMIT = 5"), "rule.py was changed since"),
        (lambda root: (root / "rule.py").unlink(), "rule.py was changed since"),
        (lambda root: shutil.rmtree(root / FOLDER / "k1"), "compiled for another Python"),
        (lambda root: (root / FOLDER / MANIFEST).unlink(), "not compiled"),
        (lambda root: (root / FOLDER / MANIFEST).write_text("key"), "not compiled"),
    ],
)
def test_what_is_not_of_these_sources_does_not_run(checkout: Path, change: Callable[[Path], object], said: str) -> None:
    change(checkout)
    assert install(checkout) == said


def test_who_asks_for_the_sources_gets_them(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PURE, "1")
    assert install(checkout) == f"{PURE} is set"


@pytest.mark.skipif(not os.environ.get("CI") or not HEADERS.is_file(), reason="only where scripts/test has prepared it")
def test_what_is_tested_is_what_is_compiled() -> None:
    assert interface.pure_because == ("" if not os.environ.get(PURE) else f"{PURE} is set")


def test_one_changed_byte_of_a_rule_and_it_runs_from_the_source(tmp_path: Path) -> None:
    """The checkout with what was compiled of it, if anything was, and one source that somebody has edited."""
    shutil.copytree(ROOT / "interface", tmp_path / "interface", ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / FOLDER).is_dir():
        shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER)

    def ask() -> list[str]:
        said = "import interface, interface.domain.delta as d; print(d.__file__); print(interface.pure_because)"
        environment = {name: value for name, value in os.environ.items() if name != PURE} | {
            "PYTHONPATH": str(tmp_path)
        }
        done = subprocess.run(
            [sys.executable, "-c", said], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split("\n")

    known = read_manifest(tmp_path)
    before = ask()
    if known is not None and known.library(tmp_path).is_file() and not interface.pure_because:
        assert before[0].endswith(EXTENSION_SUFFIXES[0]) and before[1] == ""
    with (tmp_path / "interface" / "domain" / "delta.py").open("a") as source:
        source.write("\n")
    after = ask()
    assert after[0] == str(tmp_path / "interface" / "domain" / "delta.py") and after[1] != ""


# ---- the same is said ------------------------------------------------------------------------------------------------


def _decoded(registry: Any) -> list[str]:
    """What a message of each protocol says, as text: from its driver in the room that is given."""
    messages = {"generic_hl7": hl7_message("S1", "C1", 7), "generic_lis2": lis2_message("S1", "C1")}
    return [repr(registry.decode(registry.load(name), text)) for name, text in messages.items()]


def test_messages_say_the_same_compiled_and_from_the_source() -> None:
    here = _decoded(registry)
    with from_sources("interface.driver.registry") as (pure,):
        assert _decoded(pure) == here
    assert all(text.count("Observed(") == 25 for text in here)


def test_rules_say_the_same_compiled_and_from_the_source() -> None:
    here = rule_bench.run(rules(test_rule_bench.MIXED), test_rule_bench.TESTS)
    with from_sources("tests.domain.test_rule_bench") as (pure,):
        assert repr(pure.run(pure.rules(pure.MIXED), pure.TESTS)) == repr(here)
    assert here.vectors > 50


def test_what_the_garbage_collector_does_not_look_at_leads_nowhere_back() -> None:
    """As records and drafts are not looked at where they are compiled, a ring of them would stay for ever."""
    assert gc.is_tracked(model.Step("map", "ok", "K")) is bool(interface.pure_because)
    with from_sources("tests.domain.test_rule_bench", "tests.flow.paper", "interface.driver.registry") as sources:
        rings = _rings(*sources)
    assert rings == []


def _rings(bench: Any, desk: Any, decoder: Any) -> list[str]:
    """What of ours is garbage after messages were decoded and decided, from the sources, and is no plain object."""
    enabled, flags = gc.isenabled(), gc.get_debug()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        _decoded(decoder)
        bench.run(bench.rules(bench.MIXED), bench.TESTS)
        written = desk.Paper((desk.specimen("S1", "P1"), desk.specimen("S2", "P1")))
        for sent in (
            desk.Sent(1, "S1", (("K", "4.1"), ("NA", "140"), ("K", "4.2"))),
            desk.Sent(2, "S2", (("K", "9.9"), ("NA", "141"))),
            desk.Sent(1, "S1", (("K", "4.4"), ("NOT", "1")), clock="20261126090000"),
            desk.Sent(3, "S3", (("K", "<1"),)),
        ):
            assert written.decide(sent)
        del written, sent
        gc.collect()
        return sorted({type(one).__qualname__ for one in gc.garbage if is_dataclass(type(one))})
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        if enabled:
            gc.enable()


# ---- dataclasses written out -----------------------------------------------------------------------------------------

SOURCE = '''"""Text."""

from __future__ import annotations

from dataclasses import dataclass, field

from interface.domain.record import draft


@dataclass(frozen=True, slots=True)
class Plain:
    """It."""

    a: int
    b: str = "x"  # a comment
    c: list[int] = field(default_factory=list)
    d: tuple[int, ...] = field(init=False, default=(1,), compare=False)
    e: dict[str, int] = field(default_factory=lambda: {"one": 1}, compare=False, repr=False)
    f: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "f", self.a + 1)


@dataclass(slots=True, eq=False)
class Same:
    a: int | None = None


@draft
class Filled:
    a: int = 1
'''


def test_a_dataclass_that_is_written_out_is_the_same_dataclass(tool: dict[str, Any]) -> None:
    before: dict[str, Any] = {"__name__": "before"}
    after: dict[str, Any] = {"__name__": "before", "mypyc_attr": lambda **_: lambda kind: kind}
    text = tool["expand"](SOURCE)
    for names, source in ((before, SOURCE), (after, text)):
        module = ModuleType("before")
        sys.modules["before"] = module  # dataclasses look there
        try:
            exec(source, names)  # noqa: S102 - our own text
        finally:
            del sys.modules["before"]
    assert text.count("def __init__") == 3 and '"x"  # a comment' in text
    one, other = before["Plain"](1), after["Plain"](1)
    assert repr(one) == repr(other) and [f.name for f in fields(one)] == [f.name for f in fields(other)]
    for given in ({"a": 1, "c": [2]}, {"a": 2, "b": "y", "c": [3], "e": {"two": 2}}, {"a": 3}):
        left, right = before["Plain"](**given), after["Plain"](**given)
        assert all(getattr(left, f.name) == getattr(right, f.name) for f in fields(left))
        assert right == after["Plain"](**given) != other and repr(replace(right, b="z")) == repr(replace(left, b="z"))
    assert other.c is not after["Plain"](1).c, "one list for all"
    assert after["Filled"]() == after["Filled"](1) and text.count("acyclic") == 1
    assert after["Same"]() != after["Same"](), "by identity, as it says"
    assert hash(replace(other, c=())) == hash(replace(one, c=()))


CONSTANTS = """
from __future__ import annotations

LIMIT = 5
LOW, HIGH = 1, LIMIT + 1
FIRST, SECOND = [1, 2]
TABLE: dict[str, int] = {}
SAME = Limits
T = TypeVar("T")
said = 1
TWICE = 1
TWICE = 2
COUNTED = 0


def count() -> None:
    global COUNTED
    COUNTED = 1
"""


def test_names_in_capitals_that_get_a_value_once_are_final(tool: dict[str, Any]) -> None:
    """The others as they were: what changes, types by another name, what is not one name and one value."""
    wanted = CONSTANTS
    for plain, final in (
        ("LIMIT = 5", "LIMIT: Final = 5"),
        ("LOW, HIGH = 1, LIMIT + 1", "LOW: Final = 1\nHIGH: Final = LIMIT + 1"),
        ("TABLE: dict[str, int] = {}", "TABLE: Final[dict[str, int]] = {}"),
        ("annotations\n", "annotations\nfrom typing import Final\n"),
    ):
        wanted = wanted.replace(plain, final, 1)
    assert tool["expand"](CONSTANTS) == wanted


def test_what_may_be_none_and_is_made_by_default_is_not_compiled(tool: dict[str, Any]) -> None:
    text = SOURCE.replace("a: int | None = None", "a: list[int] | None = field(default_factory=list)")
    with pytest.raises(SystemExit, match="may be None"):
        tool["expand"](text)


def test_every_source_that_a_room_depends_on_is_watched(tool: dict[str, Any]) -> None:
    found = {str(path) for path in tool["sources_of"](("interface.flow.calculations",))}
    assert {"interface/domain/record.py", "interface/flow/work.py", "interface/store/surroundings.py"} <= found
    assert all((ROOT / path).is_file() for path in found)


def test_the_types_of_members_are_told_as_the_source_says_them() -> None:
    kinds = {name: kind for name, kind in vars(model).items() if isinstance(kind, type) and is_dataclass(kind)}
    told = {name: str(hints(kind)) for name, kind in kinds.items() if kind.__module__ == model.__name__}
    assert hints(model.Step)["inputs"] == dict[str, str]
    with from_sources("interface.domain.model") as (source,):
        assert told == {name: str(get_type_hints(vars(source)[name])) for name in told}

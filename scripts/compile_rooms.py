"""Compiles the hot rooms with mypyc into .build/rooms, where they are not yet what the sources say.

`scripts/prepare --compile` runs it.

What is compiled: pyproject.toml, [tool.labora] compiled. Why, and why it is safe: docs/decisions/compiled-rooms.md.
The dataclasses among them get an `__init__` that is written out, which mypyc compiles; the one that `dataclasses` makes
stays interpreted, and is the dearer way to make a native object. Records and drafts, in which nothing leads back to
themselves, are left to no garbage collector. What a module says once, by a name in capitals, is final: machine code has
it at hand, where it looks for any other name of a module in a table each time. Nothing else of a source is touched.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent
os.environ["LABORA_PURE"] = "1"  # what is compiled anew is not imported here
sys.path.insert(0, str(ROOT))
from interface.compiled import FOLDER, GROUP, LIBRARY, MANIFEST, Manifest, changed, digest, read_manifest  # noqa: E402

WORK = ROOT / ".build" / "compiling"
FLAGS = ("-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-w", "-fwrapv", "-DNDEBUG")
RECORDS, ACYCLIC = ("record", "draft"), "@mypyc_attr(acyclic=True)"
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
MYPY = "[mypy]\nstrict = true\nfollow_imports = silent\nignore_missing_imports = true\nwarn_unused_ignores = false\n"


# ---- dataclasses written out, constants final -----------------------------------------------------------------------

Edit: TypeAlias = tuple[int, int, list[str]]  # the first and last line that it takes the place of


def expand(text: str) -> str:
    """The module's source with an `__init__` in each of its dataclasses, records and drafts that has no base, and with
    its constants final."""
    lines, used = text.split("\n"), False
    tree = ast.parse(text)
    edits: list[Edit] = _finals(tree)
    final = bool(edits)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.bases:
            for decorator in node.decorator_list:
                if (made := _expanded(node, decorator)) is not None:
                    edits += made
                    used = True
    for first, last, new in sorted(edits, reverse=True):
        lines[first - 1 : last] = new
    text, imports = "\n".join(lines), []
    if used and not re.search(r"^from dataclasses import .*\bdataclass\b", text, re.M):
        imports.append("from dataclasses import dataclass")
    if final:
        imports.append("from typing import Final")
    if f"\n{ACYCLIC}\n" in text:  # read by mypyc; what runs has no need of mypy
        imports += [
            "from typing import TYPE_CHECKING",
            "if TYPE_CHECKING:",
            "    from mypy_extensions import mypyc_attr",
        ]
    future = "\nfrom __future__ import annotations\n"
    return text.replace(future, future + "".join(f"{line}\n" for line in imports), 1)


def _finals(tree: ast.Module) -> list[Edit]:
    """The assignments of constants: names in capitals that the module gives a value once."""
    given = Counter(
        name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    )
    given.update(name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in 2 * node.names)
    edits = []
    for node in tree.body:
        made: list[str] = []
        if isinstance(node, ast.AnnAssign) and node.value is not None and _constant(node.target, node.value, given):
            kind = ast.unparse(node.annotation)
            if not kind.startswith(("Final", "TypeAlias")):
                made = [f"{ast.unparse(node.target)}: Final[{kind}] = {ast.unparse(node.value)}"]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
            if all(_constant(name, value, given) for name, value in pairs):
                made = [f"{ast.unparse(name)}: Final = {ast.unparse(value)}" for name, value in pairs]
        if made:
            edits.append((node.lineno, node.end_lineno or 0, made))
    return edits


def _constant(name: ast.expr, value: ast.expr, given: Mapping[str, int]) -> bool:
    """Neither another name for a class or type, nor one that is not at hand from the beginning to the end."""
    if isinstance(value, ast.Name) or (isinstance(value, ast.Call) and "Var" in ast.unparse(value.func)):
        return False
    return isinstance(name, ast.Name) and CONSTANT.fullmatch(name.id) is not None and given[name.id] == 1


def _expanded(node: ast.ClassDef, decorator: ast.expr) -> list[Edit] | None:
    """What takes the place of which lines of a class; None where the decorator makes no dataclass of it."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    own = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    if not isinstance(called, ast.Name) or called.id not in (*RECORDS, "dataclass") or "__init__" in own:
        return None
    options = {one.arg: ast.unparse(one.value) for one in getattr(decorator, "keywords", ())}
    # Frozen by the type checker, which looked at the source as it stands; the machine code sets no field twice.
    if called.id == "record" or (options.pop("frozen", "") and options.get("eq") != "False"):
        options["unsafe_hash"] = str("__hash__" not in own)
    options.pop("slots", None)  # a native object has no dictionary either
    options["init"] = "False"
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    if not fields:
        return None
    parameters, body = _written(fields)
    if "__post_init__" in own:
        body.append("self.__post_init__()")
    end = fields[-1].end_lineno or 0
    made = ["", f"    def __init__(self, {', '.join(parameters)}) -> None:", *(f"        {line}" for line in body)]
    written = [f"@dataclass({', '.join(f'{key}={value}' for key, value in options.items())})"]
    if called.id in RECORDS:
        written.append(ACYCLIC)
    return [(decorator.lineno, decorator.end_lineno or 0, written), (end + 1, end, made)]


def _written(fields: Sequence[ast.AnnAssign]) -> tuple[list[str], list[str]]:
    """The parameters of a class's fields, and the lines that set them."""
    parameters, body = [], []
    for one in fields:
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        said = one.value
        given = {key.arg: key.value for key in said.keywords} if _is_field(said) else {}
        default = given.get("default") if _is_field(said) else said
        if "default_factory" in given:
            made = _made(given["default_factory"])
        else:
            made = "" if default is None else ast.unparse(default)
        if kind.startswith("ClassVar"):
            continue
        if "init" in given and ast.unparse(given["init"]) == "False":
            if made:
                body.append(f"self.{name} = {made}")
        elif "default_factory" in given:  # the checker knows no None here, where the field's own type has none
            if re.search(r"\bNone\b", kind):
                raise SystemExit(f"{name}: {kind} may be None and has a default_factory: cannot be compiled")
            parameters.append(f"{name}: {kind} | None = None")
            body.append(f"self.{name} = {made} if {name} is None else {name}")
        else:
            parameters.append(f"{name}: {kind}" + (f" = {made}" if made else ""))
            body.append(f"self.{name} = {name}")
    return parameters, body


def _is_field(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field"


def _made(factory: ast.expr) -> str:
    """What a factory makes, as an expression."""
    if isinstance(factory, ast.Lambda):
        return ast.unparse(factory.body)
    text = ast.unparse(factory)
    return {"list": "[]", "dict": "{}"}.get(text, f"{text}()")


# ---- sources --------------------------------------------------------------------------------------------------------


def _path(module: str) -> Path | None:
    plain = Path(*module.split("."))
    return next((one for one in (plain.with_suffix(".py"), plain / "__init__.py") if (ROOT / one).is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "interface":
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "interface")


def sources_of(modules: Sequence[str]) -> list[Path]:
    """The modules' files and those of all that they import of ours, however indirectly."""
    found: dict[Path, None] = {}
    waiting = list(modules)
    while waiting:
        path = _path(waiting.pop())
        if path is not None and path not in found:
            found[path] = None
            waiting += _imports(path)
    return sorted(found)


def _stage(sources: Mapping[Path, bytes], compiled: frozenset[Path]) -> None:
    """The sources below the work folder, those to be compiled expanded; what is there already is left untouched."""
    for old in (WORK / "interface").rglob("*.py"):
        if old.relative_to(WORK) not in sources:
            old.unlink()
    for path, content in sources.items():
        text, target = content.decode("utf-8"), WORK / path
        text = expand(text) if path in compiled else text
        if not target.is_file() or target.read_text("utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")


# ---- machine code ---------------------------------------------------------------------------------------------------


def _in_c(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """mypyc's C for the files, the shims that Python enters the modules by among it; with the compiler's options."""
    from mypyc.build import mypycify

    (WORK / "mypy.ini").write_text(MYPY, "utf-8")
    os.chdir(WORK)
    sys.argv = ["compile_rooms"]
    made = mypycify(
        ["--config-file=mypy.ini", *map(str, files)],
        opt_level="2", debug_level="0", multi_file=True, group_name=GROUP, target_dir="build",
    )  # fmt: skip
    library = next(one for one in made if one.name == LIBRARY)
    shims = [Path(source) for one in made if one.name != LIBRARY for source in one.sources]
    text = "#include <Python.h>\n"
    for shim in shims:
        text += re.sub(r"(?m)^#include <Python.h>$|^PyMODINIT_FUNC PyInit___init__\(void\).*$", "", shim.read_text())
    Path("build/shims.c").write_text(text, "utf-8")
    return [*map(Path, library.sources), Path("build/shims.c")], [f"-I{one}" for one in library.include_dirs]


def _link(sources: Sequence[Path], include: Sequence[str], target: Path) -> None:
    """Compile what is not compiled yet, as many files at once as there are processors, and link the library."""
    compiler = [
        *(os.environ.get("CC") or "cc").split(),
        *FLAGS,
        f"-I{sysconfig.get_path('include')}",
        "-Ibuild",
        *include,
    ]
    headers = b"".join(one.read_bytes() for one in sorted(Path("build").glob("*.h")))
    objects = [
        Path("objects", digest(" ".join(compiler).encode() + headers + one.read_bytes()) + ".o") for one in sources
    ]
    Path("objects").mkdir(exist_ok=True)
    for old in set(Path("objects").glob("*.o")).difference(objects):
        old.unlink()

    def compile_one(pair: tuple[Path, Path]) -> None:
        source, made = pair
        if not made.is_file():
            subprocess.run([*compiler, "-c", str(source), "-o", f"{made}.new"], check=True)  # noqa: S603 - as built above
            os.replace(f"{made}.new", made)

    largest_first = sorted(zip(sources, objects, strict=True), key=lambda pair: -pair[0].stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(compile_one, largest_first):
            pass
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*compiler, "-shared", *map(str, objects), "-o", str(target)], check=True)  # noqa: S603


def missing() -> str:
    """What a C compiler would need and this machine does not have."""
    if shutil.which((os.environ.get("CC") or "cc").split()[0]) is None:
        return "a C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers"
    return ""


def main() -> int:
    """Status 1 where it could not be done; Labora then runs from its sources."""
    modules = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["labora"]["compiled"])
    if len({name.rpartition(".")[2] for name in modules}) < len(modules):
        raise SystemExit("two of the modules to be compiled have the same last name")  # they share one library
    python = f"{sys.version.split()[0]} {EXTENSION_SUFFIXES[0]}"
    own = digest(Path(__file__).read_bytes() + repr(modules).encode())
    tool = f"{own} mypy {version('mypy')} {python}"
    known = read_manifest(ROOT)
    if known and known.tool == tool and known.library(ROOT).is_file() and not changed(ROOT, known.sources):
        return 0
    print(f"Compiling {len(modules)} modules ...", file=sys.stderr)
    sources = {path: (ROOT / path).read_bytes() for path in sources_of(modules)}  # once: what is digested is compiled
    digests = {str(path): digest(content) for path, content in sources.items()}
    files = [path for name in modules if (path := _path(name)) is not None]
    _stage(sources, frozenset(files))
    key = digest((tool + repr(sorted(digests.items()))).encode())
    made = Manifest(key, tool, modules, digests)
    _link(*_in_c(files), made.library(ROOT))
    new = ROOT / FOLDER / f"{MANIFEST}.new"
    new.write_text(made.text(), "utf-8")
    os.replace(new, ROOT / FOLDER / MANIFEST)
    for old in (ROOT / FOLDER).iterdir():
        if old.is_dir() and old.name != key:
            shutil.rmtree(old, ignore_errors=True)
    return 0


if __name__ == "__main__":
    if lacking := missing():
        print(f"Without {lacking} Labora runs from its sources: it decides more slowly, and the same.", file=sys.stderr)
        sys.exit(0)
    sys.exit(main())

"""The hot rooms as machine code, where `scripts/prepare` could make it and the sources are still those it was made of.

What was compiled lies in `.build/rooms/`, outside the package, with the digest of every source that it depends on.
Python finds it only by the finder that is put in place here, and only after all those digests were compared with the
files that are there now: one changed byte in one of them, and every room runs from its source. So no rule runs that is
not what the source says (docs/decisions/compiled-rooms.md). Without compiled rooms everything works as well, slower.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

PURE = "LABORA_PURE"  # in the environment, set to anything: run from the sources
GROUP = "labora_rooms"
LIBRARY = f"{GROUP}__mypyc"  # what mypyc calls the library of a group
FOLDER, MANIFEST = Path(".build/rooms"), "manifest"  # below the checkout, and in it


def digest(content: bytes) -> str:
    """What stands in the manifest of a source."""
    return blake2b(content, digest_size=20).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was compiled. `key`: names the folder of the library; `tool`: what it was made by and for.

    `sources`: digests by path below the checkout, of the modules and of all that they import of ours.
    """

    key: str
    tool: str
    modules: tuple[str, ...]
    sources: Mapping[str, str]

    def library(self, root: Path) -> Path:
        """Where the library lies for the interpreter that runs."""
        return root / FOLDER / self.key / f"{LIBRARY}{EXTENSION_SUFFIXES[0]}"

    def text(self) -> str:
        lines = [f"key {self.key}", f"tool {self.tool}", *(f"module {name}" for name in self.modules)]
        return "\n".join([*lines, *(f"{said} {path}" for path, said in sorted(self.sources.items())), ""])


def read_manifest(root: Path) -> Manifest | None:
    """What was compiled of the checkout; None where nothing was."""
    try:
        pairs = [line.split(" ", 1) for line in (root / FOLDER / MANIFEST).read_text("utf-8").splitlines()]
        (_, key), (_, tool), *rest = pairs
    except (OSError, ValueError):
        return None
    modules = tuple(text for word, text in rest if word == "module")
    return Manifest(key, tool, modules, {text: word for word, text in rest if word != "module"})


def changed(root: Path, sources: Mapping[str, str]) -> str:
    """The first of the sources that is not as its digest says; "" when all are."""
    for path, said in sources.items():
        try:
            if digest((root / path).read_bytes()) != said:
                return path
        except OSError:
            return path
    return ""


class Finder(MetaPathFinder):
    """Finds the modules of a compiled library, and the library."""

    def __init__(self, modules: Sequence[str], path: Path) -> None:
        self._modules, self._path = frozenset((*modules, LIBRARY)), str(path)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._modules:
            return None
        return spec_from_file_location(name, self._path, loader=ExtensionFileLoader(name, self._path))


def install(root: Path) -> str:
    """Let the compiled rooms below the checkout be imported in place of their sources; "" then, else why not."""
    if os.environ.get(PURE):
        return f"{PURE} is set"
    found = read_manifest(root)
    if found is None:
        return "not compiled"
    if other := changed(root, found.sources):
        return f"{other} was changed since"
    library = found.library(root)
    if not library.is_file():
        return "compiled for another Python"
    finder = Finder(found.modules, library)
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(LIBRARY)
    except ImportError as error:
        sys.meta_path.remove(finder)
        return f"cannot be loaded: {error}"
    return ""


def hints(kind: type) -> dict[str, Any]:
    """The types of a class's members, as its source says them: of `dict[str, str]` machine code keeps `dict` only."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        module = sys.modules[one.__module__]
        if not isinstance(module.__spec__ and module.__spec__.loader, ExtensionFileLoader):
            found |= get_type_hints(one) if one is not object else {}
        elif (said := _said(one.__module__).get(one.__qualname__)) is not None:
            found |= {name: eval(text, vars(module)) for name, text in said.items()}  # noqa: S307 - our own source
    return found


@cache
def _said(module: str) -> Mapping[str, Mapping[str, str]]:
    """What the source of a module says of the members of its classes, by class."""
    path = Path(__file__).parents[1] / f"{module.replace('.', '/')}.py"
    return {
        of.name: {
            line.target.id: ast.unparse(line.annotation)
            for line in of.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        }
        for of in ast.parse(path.read_text("utf-8")).body
        if isinstance(of, ast.ClassDef)
    }

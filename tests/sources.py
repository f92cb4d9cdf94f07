"""Modules from their sources, beside those that run: a function inside compiled rooms cannot be replaced by a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interface.compiled import Finder

_KEPT = ("interface", "interface.compiled")  # else the compiled rooms would be put in place anew


def _ours() -> list[str]:
    return [
        one
        for one in sys.modules
        if one.startswith(("interface.", "tests.domain.", "tests.flow.")) and one not in _KEPT
    ]


def _package(module: str) -> str:
    return module.rpartition(".")[0]


@contextmanager
def from_sources(*names: str) -> Iterator[list[Any]]:
    """Modules imported anew, with all of ours that they import: nothing that is compiled is among them."""
    # What a package calls by a module's name need not be the module: `render.fhir.provenance` is a function.
    named = {one: getattr(sys.modules[_package(one)], one.rpartition(".")[2], None) for one in _ours()}
    before, finders = {one: sys.modules.pop(one) for one in _ours()}, sys.meta_path[:]
    sys.meta_path[:] = [one for one in finders if not isinstance(one, Finder)]
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        for one in _ours():
            del sys.modules[one]
        sys.modules |= before
        sys.meta_path[:] = finders
        for one, said in named.items():
            if said is not None:
                setattr(sys.modules[_package(one)], one.rpartition(".")[2], said)

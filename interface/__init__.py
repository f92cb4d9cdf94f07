"""Labora: clinical-laboratory middleware. See docs/architecture.md for the map of this package."""

from pathlib import Path

from interface.compiled import install

__version__ = "0.1.0"
# Why the hot rooms run from their sources; "" where they run as machine code. Before any of them is imported.
pure_because = install(Path(__file__).resolve().parent.parent)

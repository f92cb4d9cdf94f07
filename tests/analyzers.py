"""The simulator's analyzers, each made once for all tests: it reads every vector of its driver."""

from __future__ import annotations

from functools import cache

from interface.simulator.analyzer import model

modelled = cache(model)

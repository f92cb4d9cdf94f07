"""Every route of quality control, used as a laboratory would: for tests that ask all routes there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from interface.api.context import Route
from tests.api.bench import Bench, Laboratory
from tests.api.qc_lots_use import use_lots

# By the word after /api/: asks for something that is there or can be done, and gives the answer's status.
USERS: dict[str, Callable[[Bench, Laboratory, str, Route], Awaitable[int]]] = {
    **dict.fromkeys(("qc-materials", "qc-lots", "qc-targets", "analyzer-lots"), use_lots),
}

"""The comments that have a code: `mappings/comments.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache

from interface.settings import packaged


@cache
def coded_comments() -> Mapping[str, str]:
    """The words of each comment that has a code."""
    with (packaged("mappings") / "comments.toml").open("rb") as file:
        return dict(tomllib.load(file)["comments"])

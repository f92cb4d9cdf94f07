"""A database of its own is for a laboratory here, which need not found one and load its catalogue for each test."""

from __future__ import annotations

import pytest


@pytest.fixture
def database_url(recycled_founded_url: str) -> str:
    return recycled_founded_url

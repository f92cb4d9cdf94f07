"""The reference is as the code is."""

from __future__ import annotations

import pytest

from tests.docs.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_is(name: str) -> None:
    there = (FOLDER / name).read_text(encoding="utf-8")
    assert there == PAGES[name](), "run `python -m tests.docs.reference`"

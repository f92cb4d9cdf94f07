"""The reference is as the code is."""

from __future__ import annotations

import re

import pytest

from tests.docs.keys import keys
from tests.docs.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_is(name: str) -> None:
    there = (FOLDER / name).read_text(encoding="utf-8")
    assert there == PAGES[name](), "run `python -m tests.docs.reference`"


def test_every_setting_is_explained() -> None:
    said = (FOLDER.parent / "configuration.md").read_text(encoding="utf-8")
    missing = [path for path, _, _ in keys() if not re.search(rf"\b{re.escape(path.split('.')[-1])}\b", said)]
    assert missing == [], "docs/configuration.md does not say what they mean"

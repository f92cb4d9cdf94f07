"""docs/add-an-analyzer.md: commands and data alone lead from a capture to a verified result in FHIR."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "add-an-analyzer.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_no_program_is_written_on_the_way() -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 12
    assert not re.search(r"python|perl|\.py\b", "\n".join(blocks))

"""What is wrong with what is handed in, before the database is asked; all of it at once, without patient data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from interface.errors import LaboraError

LONGEST_TEXT = 200  # characters


class OrderError(LaboraError):
    """An order or a patient that cannot be taken. `problems`: every reason, a clause each, without patient data.

    `conflict`: it contradicts what the laboratory has, rather than being wrong in itself. `missing`: there is none.
    """

    slug = "order"

    def __init__(self, problems: Sequence[str], conflict: bool = False, missing: bool = False) -> None:
        self.problems, self.conflict, self.missing = tuple(problems), conflict, missing
        super().__init__("; ".join(self.problems))


def text_problems(name: str, text: str, longest: int = LONGEST_TEXT, lines: bool = False) -> Iterable[str]:
    """`lines`: line ends and tabs are allowed. Never repeats the text: it may be a patient's."""
    if len(text) > longest:
        yield f"the {name} is longer than {longest} characters"
    if any(not letter.isprintable() and not (lines and letter in "\r\n\t") for letter in text):
        yield f"the {name} contains a character that cannot be printed"


def instant_problems(name: str, instant: datetime | None) -> Iterable[str]:
    if instant is not None and instant.tzinfo is None:
        yield f"{name} has no time zone"

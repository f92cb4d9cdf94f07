"""What is wrong with what is handed in, before the database is asked; all of it at once, without patient data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from interface.domain.times import EARLIEST, OUT_OF_RANGE, in_range
from interface.domain.views import IdentifierView
from interface.errors import ApiError, LaboraError

LONGEST_TEXT, LONGEST_REASON = 200, 500  # characters
AHEAD = timedelta(minutes=5)  # how far a ward's clock may be ahead of ours


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
    if instant is None:
        return
    if instant.tzinfo is None:
        yield f"{name} has no time zone"
    elif not in_range(instant):
        yield f"{name} {OUT_OF_RANGE}"
    elif instant < EARLIEST:
        yield f"{name} is before {EARLIEST.year}"


def is_ahead(instant: datetime) -> bool:
    """Whether it has not happened yet, by more than a ward's clock may be ahead of ours."""
    return instant > datetime.now(UTC) + AHEAD


def past_problems(name: str, instant: datetime | None) -> Iterable[str]:
    """Of the time of what has happened."""
    if instant is not None and instant.tzinfo is not None and is_ahead(instant):
        yield f"{name} is in the future"
    yield from instant_problems(name, instant)


def identifier_problems(of: str, identifiers: Sequence[IdentifierView]) -> Iterable[str]:
    """`of`: whose they are, patient or provider."""
    if any(not identifier.value.strip() for identifier in identifiers):
        yield f"a {of} identifier is empty"
    pairs = [(identifier.authority, identifier.value) for identifier in identifiers]
    if len(pairs) != len(set(pairs)):
        yield f"a {of} identifier is given twice"
    for identifier in identifiers:
        for text in (identifier.authority, identifier.value, identifier.type):
            yield from text_problems(f"{of} identifier", text)


def reason_of(text: str) -> str:
    """Why somebody does it, which is kept. Raises ApiError 422 for none, or one that cannot be kept."""
    if not text.strip():
        raise ApiError(422, "value", "this needs a reason")
    for problem in text_problems("reason", text, LONGEST_REASON):
        raise ApiError(422, "value", problem)
    return text.strip()

"""Words of reviewing results that several use cases share."""

from __future__ import annotations

from enum import StrEnum

from interface.errors import LaboraError


class Refusal(StrEnum):
    """What kind of illegal step it is: the API makes an HTTP status of it."""

    NOT_FOUND = "not-found"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"  # it is another state than the person thought
    INVALID = "invalid"


class ReviewError(LaboraError):
    """A step that is not allowed, in one sentence."""

    slug = "review"

    def __init__(self, refusal: Refusal, text: str) -> None:
        self.refusal = refusal
        super().__init__(text)

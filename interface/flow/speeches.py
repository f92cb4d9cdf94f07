"""Who writes what a link says of itself, and its answers to what comes without a reply of its own."""

from __future__ import annotations

from collections.abc import Callable

from interface.flow.context import LinkContext
from interface.flow.downloads import downloads
from interface.flow.outgoing import Answer
from interface.flow.speech import Speech

# The first that has words for a link has it.
SPEECHES: tuple[Callable[[LinkContext], Speech | None], ...] = (downloads,)


def speech_of(link: LinkContext) -> Speech | None:
    """None where the link says nothing that it was not asked."""
    return next((speech for make in SPEECHES if (speech := make(link)) is not None), None)


def answer_of(link: LinkContext) -> Answer | None:
    """What answers the queries that a link takes in frames or blocks; None where nobody does."""
    return None

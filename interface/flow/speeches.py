"""Who writes what a link says of itself, and its answers to what comes without a reply of its own."""

from __future__ import annotations

from collections.abc import Callable

from interface.driver.manifest import LinkFraming
from interface.flow import law, queries
from interface.flow.context import LinkContext
from interface.flow.downloads import downloads
from interface.flow.outgoing import Answer
from interface.flow.speech import Speech
from interface.settings import LinkRole, TransportType

# The first that has words for a link has it.
SPEECHES: tuple[Callable[[LinkContext], Speech | None], ...] = (law.speech, downloads)


def speech_of(link: LinkContext) -> Speech | None:
    """None where the link says nothing that it was not asked."""
    return next((speech for make in SPEECHES if (speech := make(link)) is not None), None)


def answer_of(link: LinkContext) -> Answer | None:
    """What answers the queries that a link takes in frames or blocks; None where nobody does. Over MLLP they have a
    reply (`flow.requests`), and nothing can be said to a folder."""
    settings, driver = link.settings, link.driver
    if settings.role is not LinkRole.ANALYZER or settings.transport.type is TransportType.FOLDER:
        return None
    return queries.answer if driver.link is not LinkFraming.MLLP and queries.answers(driver) else None

"""What an OBX says that one before it said, in this message or another, is found by its text and not read once more.
Most is: a laboratory's analyzer has the same few hundred tests, with values of two or three digits. Pure.
"""

from __future__ import annotations

from interface.domain.model import Observed
from interface.driver.manifest import Driver
from interface.wire.hl7 import Message, Segment

_MOST_SEEN, _LONG = 4096, 300  # less than a kilobyte each; what is longer hardly comes again
_NUMBER = 4  # where in an OBX the first field begins, which is a number that says nothing


def said_again(known: Observed, location: str, time: str) -> Observed:
    """The same once more, in its own place and at its own time."""
    return Observed(
        known.code, known.value, known.raw_value, known.code_path, known.sub_id, 0, known.name, known.unit,
        known.reference, known.flags, known.status, time, known.operator, known.comments, known.holds, location,
        known.detail, known.ucum, known.measured_with, known.method,
    )  # fmt: skip


class Seen:
    """What the driver has read of results whose segment is all that they depend on, for the OBX of one message.

    The text of an OBX is its number, what it says, and its end: from the first field on that is its own in each
    message, which is a time. All of a message end alike, mostly: one that has as many fields as the one before, and
    ends as it did, is cut where that was, and not split.
    """

    __slots__ = ("_driver", "_end", "_kind", "_mark", "_marks", "_under", "time")

    def __init__(self, driver: Driver, message: Message) -> None:
        self._driver = driver
        marks = message.delimiters
        self._mark = marks.field
        self._kind = f"{message.encoding} {marks.field}{marks.definition}"  # by what its segments are read
        self._marks = -1  # how many fields the OBX before had
        self._end = ""  # and its end
        self._under = ""  # what it is found under beside what it says: `_kind`, and what its end says but the time
        self.time: str | None = None  # the instrument time of what ends so; None: not known yet

    def find(self, segment: Segment) -> Observed | None:
        """A result that says the same, but for its place, its time and how manyth it is."""
        if self._driver.own_fields is None:
            return None
        return self._driver.seen.get(self._key(segment))

    def keep(self, segment: Segment, observed: Observed) -> None:
        """For `find`, of this message and others."""
        if self._driver.own_fields is not None and len(segment.text) <= _LONG:
            seen = self._driver.seen
            if len(seen) >= _MOST_SEEN:
                seen.clear()
            seen[self._key(segment)] = observed

    def _key(self, segment: Segment) -> str:
        text = segment.text
        if text.count(self._mark) != self._marks or not text.endswith(self._end):
            self._cut(segment)
        begin = text.find(self._mark, _NUMBER)
        return self._under + (text[begin : len(text) - len(self._end)] if begin >= 0 else "")

    def _cut(self, segment: Segment) -> None:
        """Find where the end of an OBX begins, for it and those that follow."""
        own = self._driver.own_fields or ()
        fields = segment.text.split(self._mark)
        self._marks = len(fields) - 1
        first = min(own[1:], default=len(fields))
        ending = ["", *fields[first:]] if first < len(fields) else []
        self._end = self._mark.join(ending)
        for number in own[1:]:
            if number < len(fields):
                ending[number - first + 1] = ""
        self._under = f"{self._kind}{self._mark.join(ending)}\r"  # which stands in no segment
        self.time = None

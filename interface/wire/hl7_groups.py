"""The segments of an HL7 v2 message as a tree: which patient, which order, which specimen, whose comment. Pure.

Every segment stands in the tree once, and the tree read from left to right is the message. A segment goes into the
innermost open group that knows it; it closes groups only where the standard has it behind them. What nobody knows (Z
segments), and what stands where it may not, stays in the group that is open there: it ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from interface.wire.hl7 import Message, Segment
from interface.wire.hl7_structures import BY_SPECIMEN, OTHERS, STRUCTURES, Part, Rule

_LEADERS = frozenset({"SPM", "SAC", "ORC", "OBR"})
_ANCHORS = frozenset({"PID", "ORC", "OBR", "SPM", "OBX"})
# HL7 table 0119: an order that is told of with a new one
_PRIOR_CONTROLS = frozenset({"", "PR"})


class Group:
    """A group of segments. `part`: what it is about; `items`: its segments and the groups in it, in the order of the
    message."""

    __slots__ = ("_at", "_rule", "items", "part")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.part: Part = rule.part
        self._at = -1  # the last of the rule's members that was met
        self.items: list[Segment | Group] = []

    def __repr__(self) -> str:
        return f"{self._rule.part}{self.items}"

    @property
    def by_specimen(self) -> bool:
        """Of a whole message: whether its orders stand below their specimens."""
        return self._rule.by_specimen

    def segments(self) -> Iterator[Segment]:
        """Every segment below the group, in order."""
        for item in self.items:
            if isinstance(item, Group):
                yield from item.segments()
            else:
                yield item

    def own(self, segment_id: str) -> Iterator[Segment]:
        """The group's own segments with this id."""
        return (item for item in self.items if isinstance(item, Segment) and item.id == segment_id)

    def first(self, segment_id: str) -> Segment | None:
        """The first of the group's own segments with this id."""
        return next(self.own(segment_id), None)

    def groups(self, part: Part) -> Iterator[Group]:
        """The groups directly in this one that are about `part`."""
        return (item for item in self.items if isinstance(item, Group) and item.part is part)

    def find(self, part: Part) -> Iterator[Group]:
        """Every group below this one that is about `part`; none is looked for within another."""
        for item in self.items:
            if isinstance(item, Group):
                if item.part is part:
                    yield item
                else:
                    yield from item.find(part)


def group(message: Message) -> Group:
    """The message as a tree. Never raises; `segments()` of the result are the message's, in order."""
    return _Walk(message).tree()


def structure(message: Message) -> Rule:
    """The rule a message is read by: its type's, but for one that puts a specimen before its first order."""
    code, event = message.header.value(9).strip().upper(), message.header.value(9, 2).strip().upper()
    rule = STRUCTURES.get(f"{code}^{event}") or STRUCTURES.get(code, OTHERS)
    other = BY_SPECIMEN.get(rule)
    return other if other is not None and _specimen_leads(message) else rule


def _specimen_leads(message: Message) -> bool:
    first = next((segment.id for segment in message.segments if segment.id in _LEADERS), "")
    return first in ("SPM", "SAC")


class _Walk:
    def __init__(self, message: Message) -> None:
        self._segments = message.segments
        self._stack = [Group(structure(message))]
        self._next: list[int] | None = None

    def tree(self) -> Group:
        for index, segment in enumerate(self._segments):
            self._place(index, segment)
        return self._stack[0]

    def _place(self, index: int, segment: Segment) -> None:
        kind, stack = segment.id, self._stack
        if kind == "OBX" and stack[-1]._rule.of_results:
            # One more of its kind, the most frequent case: what the search below would find.
            stack[-1] = again = Group(stack[-1]._rule)
            again.items.append(segment)
            stack[-2].items.append(again)
            return
        if kind == "ORC":
            self._end_prior(segment)
        innermost = len(stack) - 1
        for depth in range(innermost, -1, -1):
            if self._taken(stack[depth], depth, kind, index):
                return
        stack[-1].items.append(segment)

    def _taken(self, at: Group, depth: int, kind: str, index: int) -> bool:
        rule, segment = at._rule, self._segments[index]
        if kind in rule.begins and self._joins(at, kind, index):
            del self._stack[depth + 1 :]
            at.items.append(segment)
            return True
        places = rule.segments.get(kind)
        if places is not None:
            place = next((place for place in places if place >= at._at), None)
            if place is not None or depth == len(self._stack) - 1:
                del self._stack[depth + 1 :]
                at.items.append(segment)
                at._at = at._at if place is None else place
                return True
        groups = rule.groups.get(kind)
        if groups is not None:
            chosen = self._choose(at, groups, kind, index)
            if chosen is not None:
                del self._stack[depth + 1 :]
                at._at = max(at._at, chosen[0])
                self._open(at, chosen[1], segment)
                return True
        return False

    def _joins(self, at: Group, kind: str, index: int) -> bool:
        """Whether one of the segments that begin a group belongs to the group that is open."""
        rule = at._rule
        if at._at >= rule.full or any(isinstance(item, Segment) and item.id == kind for item in at.items):
            return False
        later = rule.begins[rule.begins.index(kind) + 1 :]
        if any(isinstance(item, Segment) and item.id in later for item in at.items):
            # ORC behind OBR: the next order's, unless no OBR follows
            return self._following(index) not in later
        return True

    def _choose(
        self, at: Group, groups: tuple[tuple[int, Rule], ...], kind: str, index: int
    ) -> tuple[int, Rule] | None:
        for place, rule in groups:
            if rule.part is Part.PRIOR_RESULT and not self._begins_prior(index):
                continue
            if place > at._at or (place == at._at and not rule.once and kind in rule.again):
                return place, rule
        if kind in at._rule.back:
            return next(((place, rule) for place, rule in reversed(groups) if place < at._at), None)
        return None

    def _open(self, at: Group, rule: Rule, segment: Segment) -> None:
        """Open a group by one of its begins, and on the way those between that have none of their own here."""
        opened = Group(rule)
        at.items.append(opened)
        self._stack.append(opened)
        if segment.id in rule.begins:
            opened.items.append(segment)
            return
        place, inner = rule.groups[segment.id][0]
        opened._at = place
        self._open(opened, inner, segment)

    def _begins_prior(self, index: int) -> bool:
        """Whether a PID behind an order is that of a prior result: ORC-1 of the order that follows is PR or empty.

        A PID with work of its own behind it is another patient, though the standard has one patient a message.
        """
        at = self._following_index(index)
        if at is None:
            return False
        segment = self._segments[at]
        return segment.id == "OBR" or (segment.id == "ORC" and segment.value(1).strip() in _PRIOR_CONTROLS)

    def _end_prior(self, segment: Segment) -> None:
        """An ORC that asks for something is the next order's, not one more prior order."""
        for depth, opened in enumerate(self._stack):
            if opened.part is Part.PRIOR_RESULT:
                if segment.value(1).strip() not in _PRIOR_CONTROLS:
                    del self._stack[depth:]
                return

    def _following(self, index: int) -> str:
        at = self._following_index(index)
        return self._segments[at].id if at is not None else ""

    def _following_index(self, index: int) -> int | None:
        """Of the next segment that begins something. Found for all at once: one by one would take minutes for many."""
        if self._next is None:
            self._next, found = [-1] * len(self._segments), -1
            for at in range(len(self._segments) - 1, -1, -1):
                self._next[at] = found
                if self._segments[at].id in _ANCHORS:
                    found = at
        at = self._next[index]
        return at if at >= 0 else None

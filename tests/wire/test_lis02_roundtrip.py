"""LIS02-A2 written and read back: any tree of records, any delimiters, any text, any charset, in frames as well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from string import punctuation

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.wire.frames import LEGACY_TEXT_BYTES, MAX_TEXT_BYTES, build_frame
from interface.wire.lis01 import DataLink, FrameReceived, LinkOptions, SessionEnded, Station
from interface.wire.lis02 import LEVELS, Delimiters, Message, Node, Record, parse, write_message
from interface.wire.transmission import MessageSplitter, assemble

Leaves = list[list[list[str]]]  # fields from the third on: repetitions of components


@dataclass(slots=True)
class Tree:
    """A record, and what hangs below it, as plain data."""

    type: str
    fields: Leaves
    comments: list[Leaves] = field(default_factory=list)
    manufacturer: list[Leaves] = field(default_factory=list)
    children: list[Tree] = field(default_factory=list)

    def records(self) -> Iterable[list[str | list[list[str]]]]:
        """In the order in which they are sent: what is attached to a record stands directly behind it."""
        yield [self.type, "1", *self.fields]
        longer = max(len(self.comments), len(self.manufacturer))
        for at in range(longer):  # comments and manufacturer records in turn: each keeps its own parent
            for kind, attached in (("M", self.manufacturer), ("C", self.comments)):
                if at < len(attached):
                    yield [kind, "1", *attached[at]]
        for child in self.children:
            yield from child.records()


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages and how they are written."""

    trees: list[Tree]
    delimiters: Delimiters
    encoding: str

    def data(self) -> list[bytes]:
        return [write_message(list(tree.records()), self.delimiters, self.encoding) for tree in self.trees]


ENCODINGS = ("gb18030", "latin-1", "utf-8")
DELIMITERS = st.permutations(punctuation).map(lambda marks: Delimiters(*marks[:4]))


def texts(encoding: str, delimiters: Delimiters) -> st.SearchStrategy[str]:
    """Anything the charset has, with more delimiters and control characters in it than chance would bring."""
    marks = delimiters.field + delimiters.definition
    near = st.sampled_from([*marks, *"\r\n\x00\x02\x03\x17\x7fFXHL0D "])
    return st.text(near | st.characters(codec="latin-1" if encoding == "latin-1" else "utf-8"), max_size=6)


def leaves_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Leaves]:
    components = st.lists(text, min_size=1, max_size=3)
    return st.lists(st.lists(components, min_size=1, max_size=2), max_size=3)


@st.composite
def trees(draw: st.DrawFn, leaves: st.SearchStrategy[Leaves], type_: str = "H") -> Tree:
    """Records of deeper levels stand first, so that one that skips a level (R without an O) has its parent above it."""
    level = LEVELS[type_]
    below = [kind for kind in "PQSOR" if LEVELS[kind] > level]
    kinds = draw(st.lists(st.sampled_from(below), max_size=3 if level < 2 else 2)) if below else []
    children = [draw(trees(leaves, kind)) for kind in sorted(kinds, key=lambda kind: -LEVELS[kind])]
    attached = st.lists(leaves, max_size=2)
    if type_ == "H":
        children.append(Tree("L", [[["N"]]]))
    return Tree(type_, draw(leaves), draw(attached), draw(attached), children)


@st.composite
def sent(draw: st.DrawFn, most: int = 3) -> Sent:
    delimiters, encoding = draw(DELIMITERS), draw(st.sampled_from(ENCODINGS))
    pool = draw(st.lists(texts(encoding, delimiters), min_size=1, max_size=6))  # each text in several places
    leaves = leaves_of(st.sampled_from(pool))
    return Sent(draw(st.lists(trees(leaves), min_size=1, max_size=most)), delimiters, encoding)


def read_fields(record: Record) -> Leaves:
    numbers = range(3, len(record.fields) + 1)
    return canonical([[record.components(n, at + 1) for at in range(len(record.repeats(n)))] for n in numbers])


def canonical(fields: Leaves) -> Leaves:
    """A field of one empty component is one that was not sent; behind the last that was, there is nothing."""
    made = [[] if repeats == [[""]] else repeats for repeats in fields]
    while made and not made[-1]:
        made.pop()
    return made


def read_tree(node: Node) -> Tree:
    return Tree(
        node.record.type,
        read_fields(node.record),
        [read_fields(record) for record in node.comments],
        [read_fields(record) for record in node.manufacturer],
        [read_tree(child) for child in node.children],
    )


def as_read(tree: Tree) -> Tree:
    return Tree(
        tree.type,
        canonical(tree.fields),
        [canonical(fields) for fields in tree.comments],
        [canonical(fields) for fields in tree.manufacturer],
        [as_read(child) for child in tree.children],
    )


def check(message: Message, tree: Tree, delimiters: Delimiters) -> None:
    assert message.delimiters == delimiters
    assert not message.faults
    assert message.complete
    assert read_tree(message.tree()) == as_read(tree)


def session(data: bytes, text_bytes: int) -> bytes:
    """One session's bytes: the text cut wherever the frame is full, as LIS01-A2 6.3 has it."""
    cuts = range(0, len(data), text_bytes)
    frames = [build_frame(at + 1, data[cut : cut + text_bytes], cut == cuts[-1]) for at, cut in enumerate(cuts)]
    return b"".join((b"\x05", *frames, b"\x04"))


def received(stream: bytes) -> list[bytes]:
    """The messages of a stream, through the data link and the splitter."""
    link, splitter = DataLink(Station.HOST, LinkOptions()), MessageSplitter()
    pieces: list[tuple[bytes, int, int]] = []
    messages: list[bytes] = []
    ended = False
    link.receive(stream)
    while (event := link.next_event()) is not None:
        ended = ended or isinstance(event, SessionEnded)
        if isinstance(event, FrameReceived):
            link.stored()
            for piece in splitter.feed(event.text, event.last):
                pieces.append((event.raw, piece.start, piece.stop))
                if piece.seals:
                    messages.append(assemble(pieces))
                    pieces = []
    assert ended
    assert not pieces
    return messages


@settings(max_examples=60)
@given(sent())
def test_what_is_written_reads_back(what: Sent) -> None:
    for tree, data in zip(what.trees, what.data(), strict=True):
        assert not set(data) & (set(range(0x20)) - {0x0D} | {0x7F}), "LIS01-A2: no control character but CR in a frame"
        check(parse(data, what.encoding), tree, what.delimiters)


@settings(max_examples=30)
@given(sent())
def test_what_is_written_reads_back_through_frames_of_240_bytes(what: Sent) -> None:
    messages = received(session(b"".join(what.data()), LEGACY_TEXT_BYTES))
    assert messages == what.data()
    for tree, data in zip(what.trees, messages, strict=True):
        check(parse(data, what.encoding), tree, what.delimiters)


@settings(max_examples=10, deadline=None)
@given(sent(most=2), st.integers(0, 500))
def test_what_is_written_reads_back_through_the_longest_frames(what: Sent, more: int) -> None:
    """A record that fills more than a frame goes before, so that the cut falls anywhere into the others."""
    filler = Tree("H", [[["x" * (MAX_TEXT_BYTES - more)]]], children=[Tree("L", [[["N"]]])])
    all_of_them = Sent([filler, *what.trees, filler], what.delimiters, what.encoding)
    messages = received(session(b"".join(all_of_them.data()), MAX_TEXT_BYTES))
    assert messages == all_of_them.data()
    for tree, data in zip(all_of_them.trees, messages, strict=True):
        check(parse(data, what.encoding), tree, what.delimiters)


def test_several_patients_and_orders_of_a_message_keep_their_own() -> None:
    data = write_message(
        [
            ["H", "", "ID"], ["C", "1", "I", "head"],
            ["P", "1", "", "A"], ["O", "1", "S1"], ["R", "1", [[["", "", "", "GLU"]]][0], "5"], ["C", "1", "I", "five"],
            ["R", "2", "", "6"], ["M", "1", "raw"], ["C", "1", "I", "six"], ["O", "2", "S2"], ["R", "1", "", "7"],
            ["P", "2", "", "B"], ["C", "1", "I", "of B"], ["O", "1", "S3"], ["Q", "1", [["", "S4"]]], ["L", "1", "N"],
        ]
    )  # fmt: skip
    a, b, query, end = parse(data).tree().children
    assert [node.record.component(4) for node in (a, b)] == ["A", "B"]
    assert [order.record.component(3) for order in a.children] == ["S1", "S2"]
    five, six = a.children[0].children
    assert [comment.component(4) for comment in (*five.comments, *six.comments)] == ["five", "six"]
    assert [record.component(3) for record in six.manufacturer] == ["raw"]
    assert [comment.component(4) for comment in b.comments] == ["of B"]
    assert (query.record.component(3, 2), end.record.type) == ("S4", "L")


@pytest.mark.parametrize("marks", ["||^&", "|\\^ ", "a\\^&", "|\\^\x1c", "|\\^\u00a7"])
def test_delimiters_that_nobody_could_tell_apart_are_not_written(marks: str) -> None:
    with pytest.raises(ValueError, match="four different"):
        write_message([["H", ""]], Delimiters(*marks))

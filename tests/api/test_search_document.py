"""docs/fhir-search.md says what the tables of the search say: its parts between markers are made from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from interface.api.fhir import page, search
from interface.domain.views import Audience
from interface.store.search.engine import Kind
from interface.store.search.fields import Link, Parameter
from interface.store.search.kinds import kinds

DOCUMENT = Path(__file__).parents[2] / "docs" / "fhir-search.md"
BEGIN, END = "<!-- from the tables of interface/store/search: begin -->\n", "<!-- end -->\n"


def _parameter(parameter: Parameter) -> str:
    field = parameter.field
    modifiers = [f"`:{name}`" for name in field.modifiers]
    if isinstance(field, Link):
        modifiers = [*modifiers, *(f"`:{target}`" for target in field.targets)] if field.targets else []
    return f"| `{parameter.name}` | {field.type} | {' '.join(modifiers)} | {parameter.text} |"


def _kind(kind: Kind) -> Iterator[str]:
    yield f"### {kind.name}\n"
    yield "| parameter | type | modifiers beside `:missing` | finds by |\n| --- | --- | --- | --- |"
    yield from map(_parameter, kind.parameters)
    yield f"\nSorted by {', '.join(f'`{name}`' for name in kind.sorts)}.\n"


def _limits() -> Iterator[str]:
    yield "| of one search | at most |\n| --- | --- |"
    for what, most in (
        ("parameters", search.MOST_PARAMETERS),
        ("values of one parameter", search.MOST_VALUES),
        ("bytes of names and values", search.MOST_CHARACTERS),
        ("references in one chain", search.MOST_DEPTH),
        ("`_include` and `_revinclude`", search.MOST_INCLUDES),
        ("parameters of `_sort`", search.MOST_SORTS),
        ("matches of a page (`_count`, else 50)", search.MOST_COUNT),
        ("resources that come along with a page", page.MOST_INCLUDED),
        ("rounds of `:iterate`", page.MOST_ROUNDS),
    ):
        yield f"| {what} | {most} |"
    yield ""


def tables() -> str:
    lines = [*_limits()]
    for kind in kinds(Audience.EMR).values():
        lines += _kind(kind)
    return "\n".join(lines)


def test_the_document_says_what_the_tables_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    made, _, after = rest.partition(END)
    if made != tables():
        DOCUMENT.write_text(before + BEGIN + tables() + END + after, encoding="utf-8")
    assert made == tables(), "docs/fhir-search.md has been made anew: look at it and commit it"

"""Values of search parameters as they are read, and that nothing a client may write is more than a refusal."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from interface.api.fhir.search import Reader
from interface.api.fhir.types import TYPES
from interface.api.fhir.values import alternatives, amount, moment, split, token
from interface.domain.permissions import Restriction
from interface.domain.search import Prefix, Token
from interface.domain.views import Audience
from interface.errors import ApiError
from interface.store.search.engine import Rows, Statement
from interface.store.search.kinds import kinds

NOW = datetime(2026, 11, 26, tzinfo=UTC)
END = "9999-12-31T23:59:59.999999"


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("5.4", "5.35", "5.45"), ("5.40", "5.395", "5.405"), ("100", "99.5", "100.5"), ("1e2", "50", "150"),
        ("1.00e2", "99.5", "100.5"), ("-5.4", "-5.45", "-5.35"), ("ap100", "90", "110"), ("0", "-0.5", "0.5"),
        ("123456789012345678.123456789012345678", "123456789012345678.1234567890123456775",
         "123456789012345678.1234567890123456785"),
    ],
)  # fmt: skip
def test_the_digits_of_a_number_say_what_it_means(text: str, low: str, high: str) -> None:
    read = amount(text, "value-quantity", NOW)
    assert (read.low, read.high, read.prefix) == (Decimal(low), Decimal(high), Prefix.EQ)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026", "2026-01-01", "2027-01-01"), ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"), ("2026-01-02T03:04", "2026-01-02T03:04", "2026-01-02T03:05"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04:06"),
        ("2026-01-02T03:04:05.25Z", "2026-01-02T03:04:05.250", "2026-01-02T03:04:05.260"),
        ("2026-01-02T03:04:05+07:00", "2026-01-01T20:04:05", "2026-01-01T20:04:06"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00", "2017-01-01T00:00:01"),
        ("9999", "9999-01-01", END), ("9999-12", "9999-12-01", END), ("9999-12-31", "9999-12-31", END),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999", END),
    ],
)  # fmt: skip
def test_the_precision_of_a_date_says_what_it_means(text: str, low: str, high: str) -> None:
    read = moment(f"ge{text}", "date", NOW)
    bounds = [datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (low, high)]
    assert ([read.low, read.high], read.prefix) == (bounds, Prefix.GE)


def test_what_is_escaped_is_no_separator() -> None:
    assert alternatives(r"a\,b,c") == [r"a\,b", "c"]
    assert split(r"a\|b|c", "|") == ["a|b", "c"]
    assert token(r"http://x|a\,b\$\\", "code") == Token("http://x", "a,b$\\")
    assert token("|x", "code") == Token("", "x")
    assert token("http://x|", "code") == Token("http://x", None)


def test_whatever_is_asked_becomes_a_statement_or_a_refusal() -> None:
    """And no value of it becomes part of the statement's text."""
    chosen, known = random.Random(5), kinds(Audience.EMR)  # noqa: S311
    names = sorted({one.name for kind in known.values() for one in kind.parameters})
    pieces = [*names, "_has", ":", ".", "Patient", "Observation", "not", "missing", "exact", "of-type", "*", "_include",
              "_revinclude:iterate", "_sort", "_count", "_elements", "_summary", "'", "'; drop table lab.result; --",
              "|", ",", "\\", "ge2026", "lt5.4", "true", "$1", "ä", "%", "{}", "{0}", "0001-01-01", "9999-12-31",
              "1e99"]  # fmt: skip
    reader = Reader(known, {name: (Restriction(),) for name in TYPES}, "http://lab", NOW)
    made = refused = 0
    for _ in range(5000):
        kind = chosen.choice(list(known))
        name = "".join(chosen.choices(pieces, k=chosen.choice((1, 1, 2, 3, 5))))
        value = "".join(chosen.choices(pieces, k=chosen.choice((1, 1, 2, 3))))
        try:
            search = reader.search(kind, [(name, value)])
        except ApiError as error:
            assert error.status == 400
            refused += 1
            continue
        statement = Statement(known)
        text = statement.page(Rows(kind, search.where), search.order, None, 5)
        assert "drop table" not in text
        assert "ä" not in text
        made += 1
    assert made > 500
    assert refused > 100

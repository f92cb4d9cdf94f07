from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.names import LAST_LETTER, fold, index_words, search_words, words


def finds(typed: str, name: str) -> bool:
    """As the store asks: every word typed, in one of its spellings, begins a word of the name."""
    indexed = index_words(name)
    groups = search_words(typed)
    return bool(groups) and all(
        any(word <= known < word + LAST_LETTER for word in group for known in indexed) for group in groups
    )


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("mull", "Müller"),
        ("MÜLL", "Müller"),
        ("Mueller", "Müller"),
        ("Müller", "MUELLER"),
        ("Müller", "Mu\N{COMBINING DIAERESIS}ller"),
        ("eva müller", "Müller Eva Maria"),
        ("mar ev", "Müller Eva Maria"),
        ("obrien", "O'Brien"),
        ("o'brien", "O'Brien"),
        ("brien", "O\N{RIGHT SINGLE QUOTATION MARK}Brien"),
        ("ludenscheid", "Müller-Lüdenscheidt"),
        ("mullerlud", "Müller-Lüdenscheidt"),
        ("strass", "Straße"),
        ("lukasz", "Łukasz"),
        ("sorensen", "Sørensen"),
        ("soerensen", "Sørensen"),
        ("dung", "Đùng"),
        ("nguyen", "Nguyễn"),
        ("isik", "IŞIK"),
        ("Öz", "ÖZTÜRK"),
        ("Ива", "ИВАНОВ"),
        ("김", "김민준"),
        ("अनि", "अनिता"),
        ("محمد", "مُحَمَّد"),
        ("van der b", "van der Berg"),
        ("j r", "J.R."),
    ],
)
def test_what_somebody_types_finds_the_name(typed: str, name: str) -> None:
    assert finds(typed, name)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("ller", "Müller"), ("eva meier", "Müller Eva"), ("%", "Müller"), ("", "Müller"), ("mullers", "Müller")],
)
def test_what_is_not_its_beginning_does_not_find_the_name(typed: str, name: str) -> None:
    assert not finds(typed, name)


def test_words_keep_their_order_and_what_belongs_to_a_letter() -> None:
    assert words("O'Brien-Müller, Eva") == ("o", "brien", "muller", "eva")
    assert words("अनिता") == ("अनिता",)


@given(st.text(max_size=30))
def test_every_name_is_found_by_itself_and_by_each_of_its_forms(name: str) -> None:
    if search_words(name):
        assert finds(name, name)
    assert fold(fold(name)) == fold(name)
    assert index_words(unicodedata.normalize("NFD", name)) == index_words(unicodedata.normalize("NFC", name))

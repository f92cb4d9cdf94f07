"""Templates of what gateways are asked: `{to}` and its like, put in so that no text can change what stands around it.

Pure. Braces that hold no lower-case word, as JSON has them, are left as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

WORDS: Final = ("to", "title", "text", "key", "secret")
_PLACE = re.compile(r"\{([a-z_]+)\}")


def unknown(template: str) -> list[str]:
    """The words in it that stand for nothing."""
    return [word for word in dict.fromkeys(_PLACE.findall(template)) if word not in WORDS]


def uses(template: str, word: str) -> bool:
    return word in _PLACE.findall(template)


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]  # within quotes, which the template has


def _percent(text: str) -> str:
    return quote(text, safe="")


def _header(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())


def _plain(text: str) -> str:
    return text


def fill_url(template: str, values: Mapping[str, str]) -> str:
    return _fill(template, values, _percent)


def fill_header(template: str, values: Mapping[str, str]) -> str:
    return _header(_fill(template, values, _plain))


def fill_body(template: str, content_type: str, values: Mapping[str, str]) -> str:
    """By what the body is: JSON strings, values of a form, or plain text."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return _fill(template, values, _json)
    return _fill(template, values, _percent if kind == "application/x-www-form-urlencoded" else _plain)


def _fill(template: str, values: Mapping[str, str], written: Callable[[str], str]) -> str:
    return _PLACE.sub(lambda match: written(values.get(match[1], "")), template)

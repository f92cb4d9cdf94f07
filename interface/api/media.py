"""Which of the forms that an answer has is wanted (RFC 9110 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from interface.errors import ApiError


def wanted(request: web.Request, offered: Sequence[str], text: str) -> str:
    """The one that Accept wants most, where it says nothing the first. Raises ApiError 406 with `text`."""
    ranges = _ranges(request.headers.get("Accept", ""))
    found = []
    for at, media in enumerate(offered):
        names = (media, f"{media.partition('/')[0]}/*", "*/*")
        weighed = next((ranges[name] for name in names if name in ranges), None)  # what names it more closely counts
        if weighed is not None and weighed[0] > 0:
            found.append((-weighed[0], weighed[1], at))
    if not found:
        raise ApiError(406, "not-supported", text)
    return offered[min(found)[2]]


def _ranges(header: str) -> dict[str, tuple[float, int]]:
    """Each range of media with its weight and its place."""
    found: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(header.split(",") if header.strip() else ["*/*"]):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            found.setdefault(media, (float(weight), place))
        except ValueError:
            raise ApiError(400, "value", "a weight in Accept is no number") from None
    return found

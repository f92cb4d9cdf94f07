"""Where a stream is cut in tests: everywhere if short, else around control characters and at seeded places."""

from __future__ import annotations

import random

ALL_SPLITS_BYTES = 4096
SEEDED_SPLITS = 200
CONTROLS = frozenset(b"\x02\x03\x04\x05\x0b\x0d\x1c\x17")


def split_places(data: bytes) -> list[int]:
    """The places, in order (DESIGN §7)."""
    if len(data) <= ALL_SPLITS_BYTES:
        return list(range(1, len(data)))
    near = {at + step for at, code in enumerate(data) if code in CONTROLS for step in range(-2, 3)}
    seeded = random.Random(len(data)).sample(range(1, len(data)), SEEDED_SPLITS)  # noqa: S311 - places, no secret
    return sorted(place for place in near | set(seeded) if 0 < place < len(data))

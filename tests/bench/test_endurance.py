"""Growth is what comes after the first tenths, and is told with how well it is known."""

from __future__ import annotations

import pytest

from tests.bench.endurance import Tenth, growth_mb, judged


def _tenths(*weights: float, descriptors: int = 9, waited_s: float = 0.01) -> list[Tenth]:
    return [Tenth([weight], descriptors, [waited_s], took_s=1.0) for weight in weights]


def test_growth_is_of_the_tenths_after_the_first() -> None:
    assert growth_mb(_tenths(50, 90, 100, 101, 102, 103), 100_000) == pytest.approx((10.0, 0.0))
    slope, error = growth_mb(_tenths(50, 90, 100, 102, 100, 102), 100_000)
    assert slope == pytest.approx(4.0) and error == pytest.approx(5.66, abs=0.01)


def test_what_neither_grows_nor_slows_down_is_as_wanted() -> None:
    flat = _tenths(50, 90, 100, 100, 100)
    assert judged(flat, 100_000)
    assert not judged(_tenths(50, 90, 100, 101, 102), 100_000)
    assert not judged([*flat, *_tenths(100, descriptors=10)], 100_000)
    assert not judged([*flat, *_tenths(100, waited_s=0.02)], 100_000)
    assert not judged(flat[:3], 100_000)

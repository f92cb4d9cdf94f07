"""What controls come to: published examples, exactness, and what there is not."""

from __future__ import annotations

import statistics as library
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain import qc_statistics
from interface.domain.qc_statistics import Peers, Statistics, combined, compared, presented, sigma, statistics

NUMBERS = st.lists(st.decimals(Decimal("0.001"), 10_000, places=3), min_size=2, max_size=40)


def of(text: str) -> Statistics:
    found = statistics(map(Decimal, text.split()))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("numbers", "mean", "sd"),
    [
        ("1 3 5 7 9", "5.00", "3.16"),  # fr.scribd.com/presentation/245376540/QC-Chart-101
        (
            "4 6 2 8 5",
            "5.00",
            "2.24",
        ),  # deviations -1 1 -3 3 0, squares 1 1 9 9 0: medialabinc.net, statistical-keyword
    ],
)
def test_published_means_and_sds(numbers: str, mean: str, sd: str) -> None:
    found = of(numbers)
    assert (str(presented(found.mean)), str(presented(found.sd))) == (mean, sd)


# Zagazig University Hospital, PMC6039160, table 2: TEa, bias, CV, sigma, per cent; inputs as printed, to one decimal.
# Left out: cholesterol and calcium, whose printed sigma is not what their printed inputs give.
SIGMAS = """
    AFP 21.87 4.2 5.8 3.0, ALT 27.48 8.7 4.6 4.1, albumin 10.00 0.6 2.0 4.6, ALP 30.00 2.7 5.0 5.4,
    bilirubin 26.94 6.4 3.3 6.2, creatinine 8.87 1.9 3.8 1.8, glucose 10.00 1.7 2.1 3.9, LD 20.00 1.9 3.4 5.3,
    magnesium 7.21 0.5 4.1 1.6, phosphorus 15.16 1.3 4.0 3.4, potassium 5.61 1.1 2.4 1.8, urea 15.55 0.0 4.0 3.9,
    GGT 22.11 2.3 3.2 6.2, triglycerides 25.99 1.4 2.3 10.7, protein 10.00 1.7 1.9 4.3, urate 11.97 1.0 2.4 4.6"""


def test_published_sigma_metrics() -> None:
    half = Decimal("0.05")
    for row in SIGMAS.split(","):
        name, *numbers = row.split()
        allowable, bias, cv, published = map(Decimal, numbers)
        low = sigma(allowable, bias + half, cv + half)
        high = sigma(allowable, max(bias - half, Decimal(0)), cv - half)
        assert low is not None and high is not None
        assert low - half <= published <= high + half, name
        assert sigma(allowable, -bias, cv) == sigma(allowable, bias, cv)  # its size counts


def test_published_sdi() -> None:
    """(9 - 8) / 2 = 0.5: joteo.net/statistics-calculators/standard-deviation-index-calculator."""
    assert qc_statistics.sdi(Decimal(9), Decimal(8), Decimal(2)) == Decimal("0.5")


def test_a_period_against_its_target() -> None:
    found = qc_statistics.analysis(map(Decimal, "102 104 100 106 98".split()), Decimal(100), Decimal(4), Decimal(10))
    assert found is not None
    assert (found.own.n, found.own.mean, presented(found.own.sd)) == (5, Decimal(102), Decimal("3.16"))
    assert (found.bias, found.sdi) == (Decimal(2), Decimal("0.5"))
    assert presented(found.own.cv) == Decimal("3.10")
    assert presented(found.total_error) == Decimal("7.12")  # 2 + 1.65 * 3.1003
    assert presented(found.sigma) == Decimal("2.58")  # (10 - 2) / 3.1003
    assert qc_statistics.analysis([], Decimal(100), Decimal(4)) is None


def test_the_laboratory_against_its_peers() -> None:
    found = compared(of("102 104 100 106 98"), Peers("all", "2026-11", Decimal(100), Decimal(5), 12, 340))
    assert (found.bias, found.sdi) == (Decimal(2), Decimal("0.4"))
    assert presented(found.cvr) == Decimal("0.62")  # 3.1003 / 5


def test_what_there_is_not_is_none() -> None:
    one, flat, zero = of("7"), of("7 7 7"), of("-1 1")
    assert (one.sd, one.cv, one.mean) == (None, None, Decimal(7))
    assert (flat.sd, flat.cv) == (Decimal(0), Decimal(0))
    assert zero.cv is None
    against = compared(one, Peers("all", "2026-11", Decimal(0), Decimal(0)))
    assert (against.bias, against.sdi, against.cvr) == (None, None, None)
    found = qc_statistics.analysed(flat, Decimal(7), Decimal(1), Decimal(10))
    assert (found.sigma, found.total_error) == (None, Decimal(0))
    assert statistics([]) is None
    assert combined([]) is None


@settings(max_examples=80, deadline=None)
@given(NUMBERS)
def test_mean_and_sd_are_those_of_exact_fractions_rounded_once(numbers: list[Decimal]) -> None:
    found = statistics(numbers)
    assert found is not None and found.sd is not None
    exact = library.mean(map(Fraction, numbers))
    assert abs(Fraction(found.mean) - exact) <= abs(exact) / 10**33
    variance = library.variance(map(Fraction, numbers))
    assert abs(Fraction(found.sd) ** 2 - variance) <= variance / 10**32


@settings(max_examples=80, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_periods_combine_to_what_all_their_numbers_come_to(periods: list[list[Decimal]]) -> None:
    parts = [each for each in map(statistics, periods) if each is not None]
    found, whole = combined(parts), statistics([number for period in periods for number in period])
    assert found is not None and whole is not None and found.sd is not None and whole.sd is not None
    assert (found.n, found.minimum, found.maximum) == (whole.n, whole.minimum, whole.maximum)
    assert abs(found.mean - whole.mean) <= whole.mean.scaleb(-25)
    assert abs(found.sd - whole.sd) <= max(whole.sd, whole.mean).scaleb(-25)


def test_a_small_spread_of_large_numbers_is_not_lost() -> None:
    """Where sums of squares in floating point give nothing or nonsense."""
    found = of("1000000000.001 1000000000.002 1000000000.003")
    assert found.sd == Decimal("0.001")


@pytest.mark.parametrize(("numbers", "decimals"), [("5 7", 2), ("5.0 7", 3), ("5.25 7.1", 4), ("1E+3 2E+3", 2)])
def test_a_mean_is_read_with_two_more_decimals_than_its_numbers(numbers: str, decimals: int) -> None:
    assert qc_statistics.decimals_of(map(Decimal, numbers.split())) == decimals

"""What the results of a control come to: mean, SD, CV, bias, SDI, total error, sigma metric, peer comparison. Pure.

| of | is | source |
| --- | --- | --- |
| sd | sqrt(sum (x - mean)^2 / (n - 1)) | the sample's; none of one number |
| cv | 100 sd / abs mean, per cent | |
| bias | 100 (mean - target) / abs target, per cent | |
| sdi | (mean - group mean) / group SD | PROTOCOLS §4.4; unityweb.qcnet.com/Documentation/Help/UnityWeb/399.htm |
| cvr | cv / group CV | unityweb.qcnet.com/Documentation/Help/UnityWeb/404.htm |
| total error | abs bias + 1.65 cv, per cent | Westgard JO, Carey RN, Wold S, Clin Chem 1974;20:825-833 |
| sigma | (TEa - abs bias) / cv | westgard.com/essays/six-sigma/1051-2024-standardizing-sigma-metric.html |

Everything is Decimal. Sums are exact, and what is not a whole number of digits is rounded once, half even, to 34
significant ones; `presented` is what people read. None stands for what there is not: an SD of one number, a CV of a
mean of zero. Numbers are taken as they are: who excludes a point leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact

from interface.domain.exact import EXACT, rounded
from interface.domain.record import record

COVERAGE = Decimal("1.65")  # one-sided 95 %: as the source has it
_HUNDRED = Decimal(100)
_SUMS = Context(prec=2_000, traps=[Inexact])  # sums and products of measurable numbers are shorter by far
_DECIMALS = 2  # of per cents, indices and sigma, as people read them


@record
class Statistics:
    """Of so many numbers. `sd` of one is None."""

    n: int
    mean: Decimal
    sd: Decimal | None
    minimum: Decimal
    maximum: Decimal

    @property
    def cv(self) -> Decimal | None:
        return None if self.sd is None else percent_of(self.sd, self.mean)


@record
class Analysis:
    """A period of one level against its target. `allowable`: TEa in per cent, where the plan says it."""

    own: Statistics
    target_mean: Decimal
    target_sd: Decimal
    bias: Decimal | None
    sdi: Decimal | None  # against the target: mean z
    total_error: Decimal | None
    sigma: Decimal | None
    allowable: Decimal | None = None


@record
class Peers:
    """What a group of laboratories measures with a lot in a period."""

    group: str
    period: str  # 2026-11
    mean: Decimal
    sd: Decimal
    laboratories: int = 0
    points: int = 0


@record
class PeerComparison:
    """The laboratory against a peer group."""

    own: Statistics
    peers: Peers
    peer_cv: Decimal | None
    bias: Decimal | None
    sdi: Decimal | None
    cvr: Decimal | None


def statistics(numbers: Iterable[Decimal]) -> Statistics | None:
    """None of no numbers."""
    values = tuple(numbers)
    if not values:
        return None
    total, squares = Decimal(0), Decimal(0)
    for value in values:
        total = _SUMS.add(total, value)
        squares = _SUMS.fma(value, value, squares)
    return of_sums(len(values), total, squares, min(values), max(values))


def of_sums(n: int, total: Decimal, squares: Decimal, minimum: Decimal, maximum: Decimal) -> Statistics:
    """Of at least one number, from the exact sum of them and of their squares."""
    # n sum x^2 - (sum x)^2 is n (n - 1) times the variance, and exact: nothing is lost between numbers that are close
    spread = _SUMS.subtract(_SUMS.multiply(Decimal(n), squares), _SUMS.multiply(total, total))
    sd = None if n == 1 else _root(spread, Decimal(n * (n - 1)))
    return Statistics(n, EXACT.divide(total, Decimal(n)), sd, minimum, maximum)


def combined(periods: Iterable[Statistics]) -> Statistics | None:
    """Several periods as one, from what they came to: what all their numbers come to, to within the last digits."""
    parts = tuple(periods)
    if not parts:
        return None
    n = Decimal(sum(part.n for part in parts))
    total, spread = Decimal(0), Decimal(0)
    for part in parts:
        total = _SUMS.fma(part.mean, Decimal(part.n), total)
    mean = EXACT.divide(total, n)
    for part in parts:
        away = _SUMS.subtract(part.mean, mean)
        spread = _SUMS.fma(_SUMS.multiply(away, away), Decimal(part.n), spread)
        if part.sd is not None:
            spread = _SUMS.fma(_SUMS.multiply(part.sd, part.sd), Decimal(part.n - 1), spread)
    sd = None if n == 1 else _root(spread, n - 1)
    return Statistics(int(n), mean, sd, min(part.minimum for part in parts), max(part.maximum for part in parts))


def percent_of(number: Decimal, whole: Decimal) -> Decimal | None:
    """Per cent of the size of `whole`; None of zero."""
    return None if not whole else EXACT.divide(_SUMS.multiply(_HUNDRED, number), whole.copy_abs())


def bias(mean: Decimal, target: Decimal) -> Decimal | None:
    return percent_of(_SUMS.subtract(mean, target), target)


def sdi(mean: Decimal, group_mean: Decimal, group_sd: Decimal) -> Decimal | None:
    return None if group_sd <= 0 else EXACT.divide(_SUMS.subtract(mean, group_mean), group_sd)


def cvr(cv: Decimal | None, group_cv: Decimal | None) -> Decimal | None:
    return None if cv is None or not group_cv else EXACT.divide(cv, group_cv)


def total_error(bias_percent: Decimal | None, cv: Decimal | None) -> Decimal | None:
    if bias_percent is None or cv is None:
        return None
    return EXACT.plus(_SUMS.fma(COVERAGE, cv, bias_percent.copy_abs()))


def sigma(allowable: Decimal | None, bias_percent: Decimal | None, cv: Decimal | None) -> Decimal | None:
    """How many SD fit between the bias and the allowable error; negative where the bias alone is beyond it."""
    if allowable is None or bias_percent is None or not cv:
        return None
    return EXACT.divide(_SUMS.subtract(allowable, bias_percent.copy_abs()), cv)


def analysis(
    numbers: Iterable[Decimal], target_mean: Decimal, target_sd: Decimal, allowable: Decimal | None = None
) -> Analysis | None:
    """None of no numbers."""
    own = statistics(numbers)
    return None if own is None else analysed(own, target_mean, target_sd, allowable)


def analysed(own: Statistics, target_mean: Decimal, target_sd: Decimal, allowable: Decimal | None = None) -> Analysis:
    off = bias(own.mean, target_mean)
    return Analysis(
        own,
        target_mean,
        target_sd,
        bias=off,
        sdi=sdi(own.mean, target_mean, target_sd),
        total_error=total_error(off, own.cv),
        sigma=sigma(allowable, off, own.cv),
        allowable=allowable,
    )


def compared(own: Statistics, peers: Peers) -> PeerComparison:
    peer_cv = percent_of(peers.sd, peers.mean)
    return PeerComparison(
        own,
        peers,
        peer_cv,
        bias=bias(own.mean, peers.mean),
        sdi=sdi(own.mean, peers.mean, peers.sd),
        cvr=cvr(own.cv, peer_cv),
    )


def presented(number: Decimal | None, decimals: int = _DECIMALS) -> Decimal | None:
    """Half up, as a result is reported. Per cents, indices and sigma have two decimals."""
    return None if number is None else rounded(number, decimals)


def decimals_of(numbers: Iterable[Decimal]) -> int:
    """Of a mean and an SD of these numbers: two more than the finest of them has."""
    exponents = (number.as_tuple().exponent for number in numbers)
    return 2 + max((-exponent for exponent in exponents if isinstance(exponent, int) and exponent < 0), default=0)


def _root(spread: Decimal, of: Decimal) -> Decimal:
    # one more division than rounding: 50 digits before the root of 34
    return EXACT.sqrt(Context(prec=50).divide(spread, of))

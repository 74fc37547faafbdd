"""Statistics and convergence of docs/determinism.md (sections 9 and 10).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Python's float is binary64, its + − × ÷ and math.sqrt round to nearest
even, and float(int) too: the f64 steps of section 1 are written as they stand.
"""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import ceil, floor, sqrt
from typing import Any, NamedTuple, Optional

from forge_core import LEAF_ITERATIONS, SpecError
from forge_distribution import Distribution, bucket_low
from forge_shard import ShardResult
from forge_tables import nearest_upper_quantile

f64 = float


# --- Section 9.1: pieces and order statistics
# ----------------------------------------------------------------------


class Piece(NamedTuple):
    """Section 9.1: `count` amounts spread from low to high."""

    low: int
    high: int
    count: int


class PieceLists(NamedTuple):
    """Section 9.1: the three ordered lists of pieces."""

    estimate: list[Piece]
    lower: list[Piece]
    upper: list[Piece]


def pieces_of(distribution: Distribution) -> PieceLists:
    """Section 9.1: the ordered lists of pieces."""
    if distribution.listed is not None:
        exact = [Piece(amount, amount, times) for amount, times in sorted(distribution.listed.items())]
        return PieceLists(exact, exact, exact)
    estimate: list[Piece] = []
    lower: list[Piece] = []
    upper: list[Piece] = []
    on_marks = [(m, a) for m, a in zip(distribution.marks, distribution.on_mark) if a > 0]
    for bucket in sorted(distribution.buckets):
        count = distribution.buckets[bucket]
        low = max(bucket_low(bucket, distribution.bits), distribution.minimum)
        high = min(bucket_low(bucket + 1, distribution.bits) - 1, distribution.maximum)
        inside = [(m, a) for m, a in on_marks if low <= m <= high]
        rest = count - sum(a for _, a in inside)
        at_marks = [Piece(mark, mark, times) for mark, times in inside]
        start, given = low, 0
        for at_mark in at_marks:
            share = rest * (at_mark.low - low) // (high - low) if high > low else 0
            estimate += [Piece(start, at_mark.low, share - given), at_mark]
            start, given = at_mark.low, share
        estimate.append(Piece(start, high, rest - given))
        lower += [Piece(low, low, rest), *at_marks]
        upper += [*at_marks, Piece(high, high, rest)]
    return PieceLists(*([piece for piece in some if piece.count > 0] for some in (estimate, lower, upper)))


class PieceOrder:
    """Sections 9.1 and 9.2: order statistics and tails of one list of pieces."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.ends = list(accumulate(piece.count for piece in self.pieces))
        self.n = self.ends[-1]

    def locate(self, rank: int) -> tuple[int, int]:
        """The index of the piece that contains a rank, and the rank within the piece (from 1)."""
        index = bisect_left(self.ends, rank)
        return index, rank - (self.ends[index] - self.pieces[index].count)

    def statistic(self, rank: int) -> float:
        """Section 9.1: x(r)."""
        index, j = self.locate(rank)
        low, high, count = self.pieces[index]
        return f64(low) + f64(high - low) * f64(2 * j - 1) / f64(2 * count)

    def rank(self, a: int, b: int) -> int:
        """Section 9.2: r = ⌈n·a/b⌉."""
        return -(-self.n * a // b)

    def var(self, a: int, b: int) -> float:
        """Section 9.2."""
        return self.statistic(self.rank(a, b))

    def tvar(self, a: int, b: int) -> float:
        """Section 9.2."""
        n, r = self.n, self.rank(a, b)
        index, j = self.locate(r)
        low, high, c = self.pieces[index]
        var = self.statistic(r)
        later = sum(piece.count * (piece.low + piece.high) for piece in self.pieces[index + 1:])
        own = f64(2 * (c - j) * low) + f64(high - low) * f64((c - j) * (c + j)) / f64(c)
        tail = (f64(later) + own) / 2
        tvar = (f64(r * b - n * a) * var + f64(b) * tail) / f64(n * (b - a))
        return max(tvar, var)


Interval = tuple[Optional[float], Optional[float]]


class Order(PieceOrder):
    """Sections 9.1 to 9.3: the estimate of one distribution, its bounds, and intervals."""

    def __init__(self, distribution: Distribution) -> None:
        lists = pieces_of(distribution)
        super().__init__(lists.estimate)
        self.lower = PieceOrder(lists.lower)
        self.upper = PieceOrder(lists.upper)

    def var_interval(self, a: int, b: int, confidence: float) -> Interval:
        """Section 9.3: from x↓(l) to x↑(h); None where a rank does not exist."""
        low, high = interval_ranks(self.n, a, b, confidence)
        return (None if low is None else self.lower.statistic(low),
                None if high is None else self.upper.statistic(high))

    def tvar_interval(self, a: int, b: int, confidence: float) -> tuple[float, float]:
        """Section 9.3: tvar_low and tvar_high."""
        tvar, width = self.tvar(a, b), self.tvar_width(a, b, confidence)
        return (max(self.lower.statistic(self.rank(a, b)), min(tvar, self.lower.tvar(a, b)) - width),
                max(tvar, self.upper.tvar(a, b)) + width)

    def tail_square_mean(self, a: int, b: int) -> float:
        """Section 9.3: E2."""
        r = self.rank(a, b)
        index, j = self.locate(r)
        q2 = 0.0
        for position, piece in enumerate(self.pieces[index:]):
            k = f64(piece.count - j + 1) if position == 0 else f64(piece.count)
            mid = f64(piece.low + piece.high) / 2
            q2 += k * (mid * mid)
        return q2 / f64(self.n - r + 1)

    def tvar_width(self, a: int, b: int, confidence: float) -> float:
        """Section 9.3: w."""
        var, tvar = self.var(a, b), self.tvar(a, b)
        v = max(0.0, self.tail_square_mean(a, b) - tvar * tvar)
        p = f64(a) / f64(b)
        distance = tvar - var
        tail = f64(self.n) * (f64(b - a) / f64(b))
        return z_of(confidence) * sqrt((v + p * (distance * distance)) / tail)


# --- Section 9.3: ranks of a confidence interval
# -------------------------------------------------------------------


@lru_cache(maxsize=None)
def z_of(confidence: float) -> float:
    """Sections 9.3, 10: the binary64 nearest to Φ^(−1)((1+γ)/2)."""
    return nearest_upper_quantile(0.5 + confidence * 0.5)


def is_exact_branch(n: int, a: int, b: int) -> bool:
    """Section 9.3: whether the binomial weights are summed."""
    return n * a * (b - a) <= 10**6 * b * b


@lru_cache(maxsize=4096)
def interval_ranks(n: int, a: int, b: int, confidence: float) -> tuple[Optional[int], Optional[int]]:
    """Section 9.3: the ranks l and h, None where one does not exist."""
    if is_exact_branch(n, a, b):
        return _ranks_by_weights(n, a, b, confidence)
    d = z_of(confidence) * sqrt(f64(n) * f64(a) / f64(b) * (f64(b - a) / f64(b)))
    c = f64(n) * f64(a) / f64(b)
    low, high = floor(c - d), ceil(c + d) + 1
    return (low if 1 <= low <= n else None), (high if 1 <= high <= n else None)


def _ranks_by_weights(n: int, a: int, b: int, confidence: float) -> tuple[Optional[int], Optional[int]]:
    """Section 9.3, first branch."""
    smallest = 2.0**-60
    k0 = n * a // b
    up, down = [1.0], []
    k, w = k0, 1.0
    while k < n:
        w = w * (f64(n - k) * f64(a)) / (f64(k + 1) * f64(b - a))
        if w < smallest:
            break
        up.append(w)
        k += 1
    k, w = k0, 1.0
    while k > 0:
        w = w * (f64(k) * f64(b - a)) / (f64(n - k + 1) * f64(a))
        if w < smallest:
            break
        down.append(w)
        k -= 1
    first = k
    partial = []
    total = 0.0
    for w in down[::-1] + up:
        total += w
        partial.append(total)
    half = (1 - confidence) / 2
    low = first  # l − 1 = first − 1: below the first weight kept the first test holds
    while low - first < len(partial) and partial[low - first] <= half * total:
        low += 1
    high = first
    while partial[high - first] < (1 - half) * total:
        high += 1
    high += 1  # h − 1 is the k found
    return (low if low >= 1 else None), (high if high <= n else None)


# --- Section 9.4: mean and variance
# --------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Section 9.4, in minor units; None for n = 1."""

    mean: float
    variance: Optional[float]
    std_dev: Optional[float]
    std_error: Optional[float]


def moments_of(n: int, total: int, squares: int) -> Moments:
    """Section 9.4."""
    mean = f64(total) / f64(n)
    if n == 1:
        return Moments(mean, None, None, None)
    variance = f64(n * squares - total * total) / f64(n) / f64(n - 1)
    std_dev = sqrt(variance)
    return Moments(mean, variance, std_dev, std_dev / sqrt(f64(n)))


# --- Section 11: tail figures
# --------------------------------------------------------------------------------------

INTERVAL_CONFIDENCE = 0.95


def scaled(value: Optional[float], units: int) -> Optional[float]:
    """In units of the args."""
    return None if value is None else value / f64(units)


def tail_figures(order: Order, level: tuple[int, int], units: int, highest: int = 2) -> dict[str, Any]:
    """Section 11: tail figures of an amount at a level. `highest` is its highest moment."""
    low, high = order.var_interval(*level, INTERVAL_CONFIDENCE)
    tvar_low, tvar_high = order.tvar_interval(*level, INTERVAL_CONFIDENCE)
    has_mean, has_variance = highest >= 1, highest >= 2
    return {"var": scaled(order.var(*level), units), "var_low": scaled(low, units), "var_high": scaled(high, units),
            "tvar": scaled(order.tvar(*level), units) if has_mean else None,
            "tvar_low": scaled(tvar_low, units) if has_variance else None,
            "tvar_high": scaled(tvar_high, units) if has_variance else None}


# --- Section 10: convergence
# ---------------------------------------------------------------------------------------

LEVEL_TERMS = 10**6  # p = a/b with b = 10^6


def checkpoints(iterations: int, minimum: int) -> list[int]:
    """Section 10: the iteration counts of the checkpoints, in order."""
    out: list[int] = []
    octave = 1
    counts = [1, 2, 3]
    while True:
        counts += [4 * octave, 5 * octave, 6 * octave, 7 * octave]
        for count in counts:
            if count * LEAF_ITERATIONS > iterations:
                return out
            if count * LEAF_ITERATIONS >= minimum:
                out.append(count * LEAF_ITERATIONS)
        counts = []
        octave *= 2


def level_numerator(level: float) -> int:
    """Section 10: a of p = a/b with b = 10^6. The document does not specify levels that are not
    multiples of 10^-6.
    """
    a = round(Fraction(level) * LEVEL_TERMS)
    if f64(a) / f64(LEVEL_TERMS) != level or not 0 < a < LEVEL_TERMS:
        raise SpecError("convergence.level is not a multiple of 0.000001 between 0 and 1")
    return a


class Evaluation(NamedTuple):
    """Section 10: the outcome of a checkpoint; half_width is None if the test is not defined."""

    iterations: int
    estimate: float
    half_width: Optional[float]
    variance: float
    band: bool
    stable_run: int


def estimate_of(convergence: dict[str, Any], result: ShardResult) -> tuple[float, Optional[float]]:
    """Section 10, test 1: estimate and half_width of the metric."""
    metric = convergence["metric"]
    z = z_of(convergence["confidence"])
    if metric == "mean":
        moments = moments_of(result.iterations, result.sum, result.sum_of_squares)
        return moments.mean, z * moments.std_error
    order = Order(result.total)
    a, b = level_numerator(convergence["level"]), LEVEL_TERMS
    if metric not in ("var", "tvar"):
        raise SpecError(f"unknown metric {metric}")
    confidence = convergence["confidence"]
    low, high = order.var_interval(a, b, confidence)
    if low is None or high is None:
        return (order.var(a, b) if metric == "var" else order.tvar(a, b)), None
    if metric == "var":
        return order.var(a, b), (high - low) / 2
    width = order.tvar_width(a, b, confidence) + (order.upper.tvar(a, b) - order.lower.tvar(a, b)) / 2
    return order.tvar(a, b), width


class Convergence:
    """Section 10: tests the checkpoints of a run, in order."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.previous: Optional[float] = None
        self.stable_run = 0

    def test(self, result: ShardResult) -> tuple[Evaluation, Optional[str]]:
        """Section 10: evaluates a checkpoint; the reason to stop, or None."""
        epsilon = self.settings["relative_half_width"]
        estimate, half_width = estimate_of(self.settings, result)
        band = estimate > 0 and half_width is not None and half_width <= epsilon * estimate
        variance = moments_of(result.iterations, result.sum, result.sum_of_squares).variance
        if self.previous is not None and abs(variance - self.previous) <= epsilon * variance:
            self.stable_run += 1
        else:
            self.stable_run = 0
        self.previous = variance
        evaluation = Evaluation(result.iterations, estimate, half_width, variance, band, self.stable_run)
        wanted = self.settings["stable_checkpoints"]
        if band:
            return evaluation, "band_reached"
        if wanted > 0 and self.stable_run >= wanted:
            return evaluation, "variance_stable"
        return evaluation, None

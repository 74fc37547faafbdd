"""Count, quantile, step and linear tables of docs/determinism.md (section 5).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Every floor is checked to be decided: no number that is floored may lie
closer to an integer than MARGIN, unless it is known exactly.
"""

from __future__ import annotations

import struct
from decimal import ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist
from typing import Callable, Iterator, NamedTuple

from forge_core import SpecError

MARGIN_DIGITS = 25  # a floor is decided if the number is further than 10^-25 from an integer
DIGITS = 75  # decimal digits of e^x and of z, unless a caller asks for others
LONG_DIGITS = 120  # digits where a value may be exactly rational
FIXED = 128  # nodes are held as floor(V · 2^FIXED)


def context(digits: int) -> Context:
    return Context(prec=digits, Emin=-10**9, Emax=10**9)


def decided_floor(value: Decimal) -> int:
    """Section 5: the floor of a positive number; an error if the precision does not decide it."""
    floor = value.to_integral_value(ROUND_FLOOR)
    margin = Decimal(10) ** -MARGIN_DIGITS
    if not margin < value - floor < 1 - margin:
        raise SpecError(f"undecided floor: {value}")
    return int(floor)


# --- Section 5.1: count tables
# -------------------------------------------------------------------------------------


class CountTable(NamedTuple):
    """Section 5.1: the number of leading zeros left out, and the stored thresholds."""

    offset: int
    thresholds: list[int]


def poisson_table(rate: float, digits: int = DIGITS) -> CountTable:
    """Section 5.1: Poisson(λ)."""
    offset, thresholds = 0, []
    if rate == 0:
        return CountTable(0, thresholds)
    with localcontext(context(digits)):
        exact_rate = Decimal(rate)
        term = total = (-exact_rate).exp() * 2**64  # in units of 2^-64
        k = 0
        while True:
            # A positive number far below 1 may lie close to 0: its floor is 0 all the same.
            threshold = decided_floor(total) if total > Decimal("0.5") else 0
            if threshold >= 2**64 - 1:
                return CountTable(offset, thresholds)
            if threshold == 0:
                offset += 1
            else:
                thresholds.append(threshold)
            k += 1
            term = term * exact_rate / k
            total += term


def bernoulli_table(probability: float) -> CountTable:
    """Section 5.1: Bernoulli(p)."""
    scaled = Fraction(probability) * 2**64
    threshold = 2**64 - (-(-scaled.numerator // scaled.denominator))
    if threshold >= 2**64 - 1:
        return CountTable(0, [])
    if threshold == 0:
        return CountTable(1, [])
    return CountTable(0, [threshold])


def constant_table(count: int) -> CountTable:
    """Section 5.1: Constant m."""
    return CountTable(count, [])


def discrete_table(probabilities: list[Fraction]) -> CountTable:
    """Section 5.1: the discrete law with these probabilities of 0, 1, 2, …, whose sum is 1."""
    offset, thresholds, below = 0, [], Fraction(0)
    for probability in probabilities:
        below += probability
        threshold = below.numerator * 2**64 // below.denominator
        if threshold >= 2**64 - 1:
            break
        if threshold == 0:
            offset += 1
        else:
            thresholds.append(threshold)
    return CountTable(offset, thresholds)


def taken_floor(value: Decimal) -> int:
    """Section 5: the floor of a number known to 10^-40, which is an integer if that close to one."""
    nearest = value.to_integral_value()
    if abs(value - nearest) < Decimal("1e-40"):
        return int(nearest)
    return decided_floor(value) if value > Decimal("0.5") else 0


def summed_table(probabilities: Iterator[Decimal]) -> CountTable:
    """Section 5.1: the table of the law with these probabilities of 0, 1, 2, …, in the current
    context.
    """
    offset, thresholds, total = 0, [], Decimal(0)
    for probability in probabilities:
        total += probability * 2**64
        threshold = taken_floor(total)
        if threshold >= 2**64 - 1:
            break
        if threshold == 0:
            offset += 1
        else:
            thresholds.append(threshold)
    return CountTable(offset, thresholds)


def binomial(trials: int, probability: float) -> Iterator[Decimal]:
    """The probabilities of Binomial(n, p)."""
    p = Decimal(probability)
    if p == 1:
        yield from [Decimal(0)] * trials + [Decimal(1)]
        return
    term = (trials * (1 - p).ln()).exp()
    for k in range(trials + 1):
        yield term
        term = term * (trials - k) * p / ((k + 1) * (1 - p))


def negative_binomial(r: Decimal, beta: Decimal) -> Iterator[Decimal]:
    """The probabilities of the negative binomial law of mean r·β and variance r·β·(1 + β)."""
    term = (-r * (1 + beta).ln()).exp()
    k = 0
    while True:
        yield term
        term = term * (r + k) * beta / ((k + 1) * (1 + beta))
        k += 1


def poisson(rate: Decimal) -> Iterator[Decimal]:
    """The probabilities of Poisson(λ)."""
    term = (-rate).exp()
    k = 0
    while True:
        yield term
        k += 1
        term = term * rate / k


def zero_modified(p0: Decimal, other: Iterator[Decimal]) -> Iterator[Decimal]:
    """The probabilities of a law of which 0 has got the probability p0."""
    rest = 1 - next(other)
    yield p0
    for probability in other:
        yield probability * (1 - p0) / rest


# --- The standard normal quantile
# ----------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def inverse_sqrt_two_pi(digits: int) -> Decimal:
    """1 / √(2π) to `digits` digits, with π by Machin's formula in integers."""
    one = 10 ** (digits + 10)

    def arctan_inverse(n: int) -> int:
        power = total = one // n
        k, sign = 1, -1
        while power:
            power //= n * n
            k += 2
            total += sign * (power // k)
            sign = -sign
        return total

    with localcontext(context(digits + 10)):
        pi = Decimal(4 * (4 * arctan_inverse(5) - arctan_inverse(239))) / one
        return 1 / (2 * pi).sqrt()


def lower_quantile(numerator: int, exponent: int, digits: int = DIGITS) -> Decimal:
    """Φ^(−1)(t) for t = numerator · 2^(−exponent), 2^-70 < t ≤ 1/2.

    A start −x (a double near the solution) is improved once. Φ(−x) is 1/2 − φ(x)·Σ x^(2k+1)/(2k+1)!!, a series of positive
    terms, in fixed point with room for t's leading zeros. With z₀ = −x and w = (t − Φ(z₀))/φ(z₀) the quantile is
    z₀ + w + z₀·w²/2 + (2z₀²+1)·w³/6 + (6z₀³+7z₀)·w⁴/24 + …; the next term is below 1500·w⁵. Since w is required to be below
    10^-14 (a double's accuracy), z is right to more than 10^-66, whatever larger `digits` is requested.
    """
    if 2 * numerator == 1 << exponent:
        return Decimal(0)
    bits = max(exponent, 3 * digits + digits // 3 + 96)
    with localcontext(context(digits + 30)):
        x = Decimal(-NormalDist().inv_cdf(numerator / (1 << exponent)))  # only a start
        over, under = x.as_integer_ratio()
        shift = under.bit_length() - 1
        square = over * over
        term = total = (over << bits) >> shift
        k = 1
        while term:
            k += 2
            term = (term * square >> 2 * shift) // k
            total += term
        density = (-x * x / 2).exp() * inverse_sqrt_two_pi(digits + 30)
        scaled_density = int(density * (1 << bits))
        scaled_cdf = (1 << (bits - 1)) - (scaled_density * total >> bits)
        w = Decimal((numerator << (bits - exponent)) - scaled_cdf) / scaled_density
        if abs(w) > Decimal("1e-14"):
            raise SpecError("the first approximation of a normal quantile is too far off")
        z = -x
        return z + w * (1 + w * (z / 2 + w * ((2 * z * z + 1) / 6 + w * (6 * z * z * z + 7 * z) / 24)))


@lru_cache(maxsize=None)
def node_quantile(octave: int, position: int, bits: int, digits: int = DIGITS) -> Decimal:
    """z at τ(ρ, i) of section 5.2, for segment_bits `bits`; cached for all tables and both halves.
    """
    if position % 2 == 0 and bits > 0:
        return node_quantile(octave, position // 2, bits - 1, digits)  # the same node in a coarser table
    # τ = 2^(ρ−65) · (1 + i / 2^(B+1)) = (2^(B+1) + i) · 2^(ρ−65−B−1)
    return lower_quantile((1 << (bits + 1)) + position, 65 + bits + 1 - octave, digits)


def nearest_upper_quantile(u: float) -> float:
    """Sections 9.3, 10: the binary64 nearest to Φ^(−1)(u), for the exact binary64 u, 1/2 ≤ u < 1.
    """
    t = 1 - Fraction(u)
    if not 0 < t <= Fraction(1, 2):
        raise SpecError("confidence outside of 0 … 1")
    return float(-lower_quantile(t.numerator, t.denominator.bit_length() - 1))


# --- Section 5.2: quantile tables
# ----------------------------------------------------------------------------------


class Entry(NamedTuple):
    """Section 5.2: one entry of a quantile table."""

    left: int
    slope: int
    curve: int
    shift: int


class Node(NamedTuple):
    """V at a node: ⌊V · 2^FIXED⌋, and whether V · 2^FIXED equals it within the margin."""

    fixed: int
    exact: bool


class LogNormal(NamedTuple):
    """Section 5.2: Q = units · e^(μ + σz)."""

    mu: float
    sigma: float


class Normal(NamedTuple):
    """Section 5.2: Q = units · (m + s·z)."""

    mean: float
    deviation: float


CUT = 1 << (54 + FIXED)
HALF = 1 << (FIXED - 1)


def cut(fixed: int, exact: bool) -> Node:
    """Section 5.2: V cut to at most 2^54 and at least −2^54."""
    if fixed >= CUT:
        return Node(CUT, True)
    if fixed < -CUT:
        return Node(-CUT, True)
    return Node(fixed, exact)


def node_pair(law: LogNormal | Normal, units: int, z: Decimal) -> tuple[Node, Node]:
    """Section 5.2: V at t (quantile z ≤ 0) and at 1 − t (quantile −z); needs a sufficient
    precision.
    """
    if isinstance(law, LogNormal):
        middle = units * Decimal(law.mu).exp()
        factor = (Decimal(law.sigma) * z).exp()
        pair = []
        for amount in (middle * factor, middle / factor):
            if amount > 2**60:
                pair.append(Node(CUT, True))
                continue
            fixed = int(amount * (1 << FIXED))
            # Q is positive, so next to nothing above 0 leaves no doubt; it is rational only where
            # it is units · e^0.
            known = fixed < 1 << 32 or (law.mu == 0 and (z == 0 or law.sigma == 0))
            pair.append(cut(fixed + HALF, known))
        return pair[0], pair[1]
    middle = Fraction(law.mean) * units * (1 << FIXED) + HALF
    if z == 0 or law.deviation == 0:
        node = cut(middle.numerator // middle.denominator, middle.denominator == 1)
        return node, node
    spread = Fraction(Decimal(law.deviation) * units * z * (1 << FIXED))
    low, high = middle + spread, middle - spread
    return cut(low.numerator // low.denominator, False), cut(high.numerator // high.denominator, False)


def magnitude_floor(node: Node) -> int:
    """⌊|V|⌋ of a node."""
    fixed = node.fixed
    if fixed < 0:
        fixed = -fixed if node.exact else -fixed - 1
    return fixed >> FIXED


def node_floor(node: Node, exponent: int) -> int:
    """Section 5.2: ⌊V / 2^e⌋; an error if the precision does not decide it."""
    bits = FIXED + exponent
    if not node.exact:
        margin = (1 << bits) // 10**MARGIN_DIGITS
        if not margin < node.fixed & ((1 << bits) - 1) < (1 << bits) - margin - 1:
            raise SpecError("undecided floor in a quantile table")
    return node.fixed >> bits


def entry(left: Node, middle: Node, right: Node) -> Entry:
    """Section 5.2: the entry made from V at the ends and the middle of its segment, ascending in u.
    """
    # The smallest m = 29 + e ≥ 0 with max(|L|, |R|) < 2^m is the bit length of the floor of that
    # maximum.
    e = max(magnitude_floor(left), magnitude_floor(right)).bit_length() - 29
    a, b, c = node_floor(left, e), node_floor(middle, e), node_floor(right, e)
    return Entry(a, 4 * b - 3 * a - c, 2 * (a - 2 * b + c), 31 - e)


def table_from(pair: Callable[[int, int], tuple[Node, Node]], bits: int) -> list[Entry]:
    """Section 5.2: all entries, in order, from V at t and at 1 − t for t = τ(octave, position)."""
    lower: list[Entry] = []
    upper: list[Entry] = []
    steps = 2 << bits  # nodes of an octave: positions 0 … 2^(B+1), the last one being the first of the next octave
    last = pair(0, 0)
    for octave in range(64):
        nodes = [last] + [pair(octave, position) for position in range(1, steps)]
        nodes.append(pair(octave + 1, 0))  # after octave 63: t = 1/2
        last = nodes[-1]
        for i in range(0, steps, 2):
            lower.append(entry(nodes[i][0], nodes[i + 1][0], nodes[i + 2][0]))
            upper.append(entry(nodes[i + 2][1], nodes[i + 1][1], nodes[i][1]))
    return lower + upper


def quantile_table(law: LogNormal | Normal, units: int, bits: int, digits: int = DIGITS) -> list[Entry]:
    """Section 5.2: all entries, in order."""
    with localcontext(context(digits)):
        return table_from(
            lambda octave, position: node_pair(law, units, node_quantile(octave, position, bits, digits)), bits)


def table_bytes(table: list[Entry]) -> bytes:
    """Section 6: the bytes of a quantile table's entries."""
    return b"".join(struct.pack("<iiiI", *item) for item in table)


class QuantileTable(NamedTuple):
    """Section 5.2: `segment_bits` and the entries."""

    bits: int
    entries: list[Entry]


# --- Section 5.3: step tables
# --------------------------------------------------------------------------------------


class StepTable(NamedTuple):
    """Section 5.3: the thresholds between the amounts, and the amounts."""

    thresholds: list[int]
    amounts: list[int]


def step_table(amounts: list[int], probabilities: list[Fraction]) -> StepTable:
    """Sections 5.3 and 12.1: amounts in the order of the table, with their probabilities, whose sum
    is 1.

    Amounts that the count table of the law leaves out, at either end, are not stored.
    """
    offset, thresholds = discrete_table(probabilities)
    return StepTable(thresholds, amounts[offset:offset + len(thresholds) + 1])


# --- Section 5.5: linear tables
# --------------------------------------------------------------------------------------


class LinearTable(NamedTuple):
    """Section 5.5: the thresholds of the inner knots, and the amounts of all knots."""

    thresholds: list[int]
    amounts: list[int]


def linear_table(amounts: list[int], probabilities: list[float]) -> LinearTable:
    """Section 5.5: ascending amounts of knots, whose probabilities ascend from 0 to 1."""
    thresholds = []
    for probability in probabilities[1:-1]:
        scaled = Fraction(probability) * 2**64
        thresholds.append(scaled.numerator // scaled.denominator)
    return LinearTable(thresholds, amounts)

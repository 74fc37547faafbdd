"""Quantile tables of laws with closed quantile functions (section 5.2 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Values are computed to LONG_DIGITS digits. Where V · 2^FIXED is that close to
an integer it is taken to be one: then V is a short binary fraction, which no other value comes near
by chance.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import lru_cache
from typing import Any, NamedTuple

from forge_core import SpecError
from forge_tables import CUT, FIXED, HALF, LONG_DIGITS, Entry, Node, context, cut, table_from

EXACT = Decimal(10) ** -20  # distance of V · 2^FIXED from an integer that is taken to be one
TOO_LARGE = 2**60  # beyond the cut of section 5.2


@lru_cache(maxsize=None)
def ln(value: Decimal) -> Decimal:
    """The natural logarithm, in the current context (that of LONG_DIGITS)."""
    return value.ln()


class Exponential(NamedTuple):
    """Q = −ln(1 − u) · mean."""

    mean: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        return -ln(s) * Decimal(self.mean)


class Pareto(NamedTuple):
    """Q = minimum · (1 − u)^(−1/α)."""

    minimum: float
    alpha: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        return Decimal(self.minimum) * (-ln(s) / Decimal(self.alpha)).exp()


class Lomax(NamedTuple):
    """Q = scale · ((1 − u)^(−1/α) − 1)."""

    scale: float
    alpha: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        return Decimal(self.scale) * ((-ln(s) / Decimal(self.alpha)).exp() - 1)


class Gpd(NamedTuple):
    """Q = location + scale · ((1 − u)^(−ξ) − 1) / ξ; with ξ = 0 location − scale · ln(1 − u)."""

    location: float
    scale: float
    xi: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        xi = Decimal(self.xi)
        excess = -ln(s) if self.xi == 0 else ((-xi * ln(s)).exp() - 1) / xi
        return Decimal(self.location) + Decimal(self.scale) * excess


class Weibull(NamedTuple):
    """Q = scale · (−ln(1 − u))^(1/shape)."""

    shape: float
    scale: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        return Decimal(self.scale) * ((-ln(s)).ln() / Decimal(self.shape)).exp()


class Burr(NamedTuple):
    """Q = scale · ((1 − u)^(−1/α) − 1)^(1/γ)."""

    alpha: float
    gamma: float
    scale: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        odds = (-ln(s) / Decimal(self.alpha)).exp() - 1
        return Decimal(self.scale) * (odds.ln() / Decimal(self.gamma)).exp()


class Uniform(NamedTuple):
    """Q = low + (high − low) · u."""

    low: float
    high: float

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        return Decimal(self.low) + (Decimal(self.high) - Decimal(self.low)) * u


def node_of(amount: Decimal) -> Node:
    """Section 5.2: V of an amount in minor units."""
    if amount > TOO_LARGE:
        return Node(CUT, True)
    if amount < -TOO_LARGE:
        return Node(-CUT, True)
    scaled = amount * (1 << FIXED)
    nearest = scaled.to_integral_value()
    if abs(scaled - nearest) < EXACT:
        if -EXACT < scaled < 0:
            raise SpecError("a quantile just below 0")
        return cut(int(nearest) + HALF, True)
    fixed = int(scaled.to_integral_value(ROUND_FLOOR))
    return cut(fixed + HALF, 0 <= fixed < 1 << 32)  # next to nothing above 0 leaves no doubt


def closed_table(law: Any, units: int, bits: int) -> list[Entry]:
    """Section 5.2: the table of a law of this module."""
    with localcontext(context(LONG_DIGITS)):
        def pair(octave: int, position: int) -> tuple[Node, Node]:
            t = Decimal((2 << bits) + position) / (1 << (66 + bits - octave))
            return node_of(units * law.quantile(t, 1 - t)), node_of(units * law.quantile(1 - t, t))

        return table_from(pair, bits)

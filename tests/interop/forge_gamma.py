"""The gamma law of docs/determinism.md (section 5.2): its quantiles by Newton's method.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Fast enough for shapes up to some hundreds.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Optional

from forge_core import SpecError
from forge_tables import LONG_DIGITS, context, inverse_sqrt_two_pi

STIRLING_START = 120  # the least argument of the asymptotic series
STIRLING_TERMS = 60
DIGITS = 80  # of quantiles; entries need 45 digits, and 1 − P loses 20
CLOSE = Decimal("1e-27")  # a relative step of Newton's method after which a solution is exact enough


@lru_cache(maxsize=None)
def bernoulli(n: int) -> Fraction:
    """The Bernoulli number B_n."""
    if n == 0:
        return Fraction(1)
    if n > 1 and n % 2:
        return Fraction(0)
    return -sum((comb(n + 1, k) * bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)


def log_gamma(z: Decimal) -> Decimal:
    """ln Γ(z), z > 0, in the current context."""
    shift = Decimal(1)
    while z < STIRLING_START:
        shift *= z
        z += 1
    total = (z - Decimal("0.5")) * z.ln() - z - inverse_sqrt_two_pi(LONG_DIGITS).ln()
    for n in range(1, STIRLING_TERMS):
        number = bernoulli(2 * n)
        total += Decimal(number.numerator) / number.denominator / (2 * n * (2 * n - 1)) / z ** (2 * n - 1)
    return total - shift.ln()


class Gamma:
    """Gamma(shape, scale): Q = scale · x with P(shape, x) = u."""

    def __init__(self, shape: float, scale: float) -> None:
        with localcontext(context(LONG_DIGITS)):
            self.shape = Decimal(shape)
            self.scale = Decimal(scale)
            self.log_gamma = log_gamma(self.shape)
        # The solutions before, where Newton's method starts; a table's nodes come in order.
        self.lower: Optional[Decimal] = None
        self.upper: Optional[Decimal] = None

    def lower_and_density(self, x: Decimal) -> tuple[Decimal, Decimal]:
        """P(shape, x) and x · its derivative."""
        product = (self.shape * x.ln() - x - self.log_gamma).exp()
        term = total = 1 / self.shape
        n = 0
        smallest = Decimal(10) ** -DIGITS
        while term > total * smallest:
            n += 1
            term *= x / (self.shape + n)
            total += term
        return product * total, product

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        with localcontext(context(DIGITS)):
            if u < s:
                self.lower = self.solve_lower(u)
                return self.scale * self.lower
            self.upper = self.solve_upper(s)
            return self.scale * self.upper

    def solve_lower(self, u: Decimal) -> Decimal:
        """x with P(shape, x) = u; ln P is concave in ln x, so that a start below stays below."""
        x = self.lower or ((u.ln() + self.log_gamma + self.shape.ln()) / self.shape).exp()
        for _ in range(100):
            below, product = self.lower_and_density(x)
            step = (u / below).ln() * below / product
            x *= step.exp()
            if abs(step) < CLOSE:
                return x
        raise SpecError("a gamma quantile was not found")

    def solve_upper(self, s: Decimal) -> Decimal:
        """x with P(shape, x) = 1 − s; the start is above the quantile (a Chernoff bound)."""
        distance = -s.ln()
        x = self.upper or self.shape + (2 * self.shape * distance).sqrt() + distance
        for _ in range(100):
            below, product = self.lower_and_density(x)
            step = ((1 - below) / s).ln() * (1 - below) * x / product
            x += step
            if abs(step) < CLOSE * x:
                return x
        raise SpecError("a gamma quantile was not found")

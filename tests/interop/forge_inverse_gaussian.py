"""The inverse Gaussian law of docs/determinism.md (section 5.2): its quantiles by Newton's method.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.

With A = √(φ/x)·(x − 1) and B = √(φ/x)·(x + 1) it is B² = A² + 4φ, so that the second term of the
law is e^(2φ)·φ(B)·M(B) = φ(A)·M(B), where φ(z) is the normal density and M the ratio of Mills.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import ceil
from typing import Optional

from forge_core import SpecError
from forge_gamma import CLOSE, DIGITS
from forge_tables import LONG_DIGITS, context, inverse_sqrt_two_pi

LARGE = 5  # from here on the continued fraction converges faster than the series
RATIO_DIGITS = 70  # of the continued fraction


def density(z: Decimal) -> Decimal:
    """The normal density."""
    return (-z * z / 2).exp() * inverse_sqrt_two_pi(LONG_DIGITS)


def mills_ratio(z: Decimal) -> Decimal:
    """Φ(−z) over the density, for z ≥ 0."""
    if z >= LARGE:
        depth = 30 + ceil((RATIO_DIGITS * 2.303 / (2 * float(z))) ** 2 / 2)
        fraction = z
        for n in range(depth, 0, -1):
            fraction = z + n / fraction
        return 1 / fraction
    term = total = z
    n = 1
    smallest = Decimal(10) ** -DIGITS
    while term > total * smallest:
        n += 2
        term *= z * z / n
        total += term
    return 1 / (2 * density(z)) - total


class InverseGaussian:
    """InverseGaussian(mean, φ): Q = mean · x."""

    def __init__(self, mean: float, shape: float) -> None:
        self.mean = Decimal(mean)
        self.shape = Decimal(shape)
        # The solutions before, where Newton's method starts; a table's nodes come in order.
        self.lower: Optional[Decimal] = None
        self.upper: Optional[Decimal] = None

    def arguments(self, x: Decimal) -> tuple[Decimal, Decimal]:
        """|A| and B."""
        root = (self.shape / x).sqrt()
        return abs(x - 1) * root, (x + 1) * root

    def probability(self, x: Decimal) -> Decimal:
        """P(X ≤ x), for x ≤ 1."""
        a, b = self.arguments(x)
        return density(a) * (mills_ratio(a) + mills_ratio(b))

    def survival(self, x: Decimal) -> Decimal:
        """P(X > x)."""
        if x <= 1:
            return 1 - self.probability(x)
        a, b = self.arguments(x)
        return density(a) * (mills_ratio(a) - mills_ratio(b))

    def derivative(self, x: Decimal) -> Decimal:
        """x · the density of the law."""
        return (self.shape / x).sqrt() * density(self.arguments(x)[0])

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        with localcontext(context(DIGITS)):
            if u < s:
                self.lower = self.solve_lower(u)
                return self.mean * self.lower
            self.upper = self.solve_upper(s)
            return self.mean * self.upper

    def solve_lower(self, u: Decimal) -> Decimal:
        """x with P(X ≤ x) = u; the start is below the quantile (a Chernoff bound)."""
        x = self.lower or self.shape / (2 * (self.shape - u.ln()))
        for _ in range(200):
            below = self.probability(min(x, Decimal(1)))
            step = (u / below).ln() * below / self.derivative(x)
            x *= step.exp()
            if abs(step) < CLOSE:
                return x
        raise SpecError("an inverse Gaussian quantile was not found")

    def solve_upper(self, s: Decimal) -> Decimal:
        """x with P(X > x) = s; the start is above the quantile (a Chernoff bound)."""
        distance = -s.ln() / self.shape
        x = self.upper or 1 + distance + (distance * (distance + 2)).sqrt()
        for _ in range(200):
            above = self.survival(x)
            step = (above / s).ln() * above / self.derivative(x)
            x *= step.exp()
            if abs(step) < CLOSE:
                return x
        raise SpecError("an inverse Gaussian quantile was not found")

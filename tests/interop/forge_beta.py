"""The beta law of docs/determinism.md (section 5.2): its quantiles by Newton's method.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Fast enough for shapes up to some tens.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Optional

from forge_core import SpecError
from forge_gamma import DIGITS, log_gamma
from forge_tables import LONG_DIGITS, context

CLOSE = Decimal("1e-38")  # as in forge_gamma; solutions may be rational, and are then seen to be
FAR = Decimal("0.7")  # beyond it the series of the other end converges faster


class LowerTail:
    """x with I_x(a, b) = u for u up to 1/2; a table's nodes come in order, from the end inwards."""

    def __init__(self, a: Decimal, b: Decimal, log_beta: Decimal) -> None:
        self.a = a
        self.b = b
        self.log_beta = log_beta
        self.before: Optional[Decimal] = None  # the solution before, where Newton's method starts

    def probability(self, x: Decimal) -> tuple[Decimal, Decimal]:
        """I_x(a, b), and x · its derivative."""
        product = (self.a * x.ln() + self.b * (1 - x).ln() - self.log_beta).exp()
        if x <= FAR:
            return product * series(self.a, self.b, x), product / (1 - x)
        return 1 - product * series(self.b, self.a, 1 - x), product / (1 - x)

    def quantile(self, u: Decimal) -> Decimal:
        x = self.before or ((u.ln() + self.log_beta + self.a.ln()) / self.a).exp()
        for _ in range(200):
            if x >= 1:
                x = (1 + (self.before or 0)) / 2
            below, derivative = self.probability(x)
            step = (u / below).ln() * below / derivative
            x *= step.exp()
            if abs(step) < CLOSE:
                self.before = x
                return x
        raise SpecError("a beta quantile was not found")


def series(a: Decimal, b: Decimal, x: Decimal) -> Decimal:
    """I_x(a, b) over x^a (1 − x)^b / B(a, b): Σ (a + b)…(a + b + n − 1) / (a…(a + n)) x^n."""
    term = total = 1 / a
    n = 0
    smallest = Decimal(10) ** -DIGITS
    while term > total * smallest:
        term *= x * (a + b + n) / (a + n + 1)
        total += term
        n += 1
    return total


class Beta:
    """Beta(a, b, scale): Q = scale · x with I_x(a, b) = u."""

    def __init__(self, a: float, b: float, scale: float) -> None:
        with localcontext(context(LONG_DIGITS)):
            first, second = Decimal(a), Decimal(b)
            self.scale = Decimal(scale)
            log_beta = log_gamma(first) + log_gamma(second) - log_gamma(first + second)
        self.lower = LowerTail(first, second, log_beta)
        self.upper = LowerTail(second, first, log_beta)

    def quantile(self, u: Decimal, s: Decimal) -> Decimal:
        with localcontext(context(DIGITS)):
            if u < s:
                return self.scale * self.lower.quantile(u)
            return self.scale * (1 - self.upper.quantile(s))

"""The `output` of risk.compound.v1 (section 11.1 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from forge_compound import millionths
from forge_details import BITS, Quantity
from forge_distribution import Distribution, bucket_low, bucket_of
from forge_program import MAX, MILLION, AggregateXl, OccurrenceXl, Program, Treaty, minor_units
from forge_shard import ShardResult
from forge_stats import Order, f64, moments_of

CONFIDENCE = 0.95
CAPITAL_LEVEL = 0.995  # of `diversification` without `capital`

Level = tuple[int, int]  # a and b of p = a/b


def level_of(level: float) -> Level:
    return millionths(level), MILLION


def tail_figures(order: Order, level: Level, units: int) -> dict[str, Any]:
    """Section 11.1: tail figures of an amount at a level."""
    u = f64(units)
    low, high = order.var_interval(*level, CONFIDENCE)
    tvar_low, tvar_high = order.tvar_interval(*level, CONFIDENCE)
    return {"var": order.var(*level) / u, "var_low": scaled(low, units), "var_high": scaled(high, units),
            "tvar": order.tvar(*level) / u, "tvar_low": tvar_low / u, "tvar_high": tvar_high / u}


def scaled(value: Optional[float], units: int) -> Optional[float]:
    return None if value is None else value / f64(units)


class Amount(NamedTuple):
    """An amount with figures: its sums and its distribution."""

    sum: int
    sum_of_squares: int
    distribution: Distribution

    def order(self) -> Order:
        return Order(self.distribution)


def amount_of(quantity: Quantity) -> Amount:
    return Amount(quantity.sum, quantity.sum_of_squares, quantity.distribution)


class Output:
    """Section 11.1: makes `output` from normalised args, their program and a result."""

    def __init__(self, args: dict[str, Any], program: Program, result: ShardResult) -> None:
        self.args = args
        self.program = program
        self.result = result
        self.units = program.units
        self.u = f64(program.units)
        self.n = result.iterations
        amounts = [amount_of(quantity) for quantity in result.details.quantities]
        self.net = Amount(result.sum, result.sum_of_squares, result.total)
        self.gross = amounts[0]
        self.lines = amounts[1:1 + program.lines]
        steps = max(0, len(program.steps()) - 1)
        self.steps = amounts[1 + program.lines:1 + program.lines + steps] + [self.net]
        self.ceded = amounts[1 + program.lines + steps:]
        self.levels = sorted(level_of(level) for level in args["report"]["levels"])
        self.periods = sorted(int(period) for period in args["report"]["return_periods"])

    def output(self, loss_distribution: dict[str, Any]) -> dict[str, Any]:
        allocated = self.args["report"]["allocation"]
        return {
            "net": self.figures(self.net), "gross": self.figures(self.gross), "exceedance": self.exceedance(),
            "lines": [{"name": name, "gross": self.figures(line)}
                      for name, line in zip(self.args["lines"], self.lines)],
            "steps": [{"step": step, "net": self.figures(after)}
                      for step, after in zip(self.program.steps(), self.steps)],
            "treaties": [self.treaty(i) for i in range(len(self.program.treaties))],
            "allocation": [{"level": f64(a) / f64(b), **self.allocation(a, b)} for a, b in self.levels
                           if allocated],
            "tail_exposure_surface": [
                {"return_period": period, "lines": self.allocation(period - 1, period)["tail"]["lines"]}
                for period in self.periods if allocated],
            "diversification": self.diversification(),
            "capital_adequacy_signal": self.capital() if "capital" in self.args else None,
            "loss_distribution": loss_distribution,
        }

    def figures(self, amount: Amount) -> dict[str, Any]:
        """Section 11.1: figures of an amount."""
        moments = moments_of(self.n, amount.sum, amount.sum_of_squares)
        order = amount.order()
        return {
            "mean": moments.mean / self.u, "std_dev": scaled(moments.std_dev, self.units),
            "std_error": scaled(moments.std_error, self.units), "min": f64(amount.distribution.minimum) / self.u,
            "max": f64(amount.distribution.maximum) / self.u,
            "zero_probability": f64(amount.distribution.buckets.get(0, 0)) / f64(self.n),
            "quantiles": [{"level": f64(level[0]) / f64(level[1]), **tail_figures(order, level, self.units)}
                          for level in self.levels],
        }

    def exceedance(self) -> list[dict[str, Any]]:
        orders = {"net": self.net.order(), "gross": self.gross.order(), "largest_occurrence": Order(self.result.largest)}
        rows = []
        for period in self.periods:
            tails = {name: tail_figures(order, (period - 1, period), self.units) for name, order in orders.items()}
            rows.append({"return_period": period, **tails})
        return rows

    # --- Treaties

    def treaty(self, number: int) -> dict[str, Any]:
        """Section 11.1: the object of a treaty."""
        args, treaty = self.args["treaties"][number], self.program.treaties[number]
        details, ceded = self.result.details.treaties[number], self.ceded[number]
        n = f64(self.n)
        hits, losses, used_up = (f64(count) / n for count in details.counts)
        is_xl = isinstance(treaty.terms, OccurrenceXl)
        figures = self.figures(ceded)
        return {
            "name": args["name"], "ceded": figures,
            "attachment_probability": f64(self.n - ceded.distribution.buckets.get(0, 0)) / n,
            "attaching_occurrences": hits if is_xl else None,
            "exhausting_occurrences": losses if is_xl and "limit" in args else None,
            "exhaustion_probability": used_up if has_annual_limit(treaty) else None,
            "rate_on_line": self.rate_on_line(args),
            "reinstated": [f64(amount) / n / self.u for amount in details.reinstated],
            "reinstatement_premium": self.reinstatement_premium(number),
            "technical_premium": self.technical_premium(number, figures["mean"]) if is_xl else None,
        }

    def rate_on_line(self, args: dict[str, Any]) -> Optional[float]:
        ratio = "attachment_ratio" in args or "limit_ratio" in args
        if args["kind"] == "quota_share" or ratio or "premium" not in args or "limit" not in args:
            return None
        return f64(minor_units(args["premium"], self.units)) / f64(minor_units(args["limit"], self.units))

    def reinstatement_premium(self, number: int) -> Optional[dict[str, Any]]:
        details = self.result.details.treaties[number]
        if "premium" not in self.args["treaties"][number] or not details.reinstated:
            return None
        moments = moments_of(self.n, details.premium, details.premium_squares)
        return {"mean": moments.mean / self.u, "std_dev": scaled(moments.std_dev, self.units)}

    def technical_premium(self, number: int, mean: float) -> float:
        terms = self.program.treaties[number].terms
        loading = 0.0
        for price, amount in zip(terms.prices, self.result.details.treaties[number].reinstated):
            loading += f64(price) / f64(MILLION) * (f64(amount) / f64(self.n)) / f64(terms.layer.limit)
        return mean / (f64(terms.placed) / f64(MILLION)) / (1 + loading)

    # --- Allocation

    def allocation(self, a: int, b: int) -> dict[str, Any]:
        """Section 11.1: `tail` and `at_quantile` of an allocation."""
        iterations: dict[int, int] = {}
        for bucket, times in self.result.total.buckets.items():
            coarse = bucket_of(bucket_low(bucket), BITS)
            iterations[coarse] = iterations.get(coarse, 0) + times
        t = left = f64(self.n) * (f64(b - a) / f64(b))
        sums = [0.0] * (len(self.lines) + len(self.ceded))
        last: list[float] = []
        for bucket in sorted(iterations, reverse=True):
            if not left > 0:
                break
            count = f64(iterations[bucket])
            share = 1.0 if count <= left else left / count
            exact = self.result.details.buckets[bucket]
            sums = [total + share * f64(more) for total, more in zip(sums, exact)]
            left = left - count
            last = [f64(more) / count / self.u for more in exact]
        return {"tail": self.parts([total / t / self.u for total in sums]), "at_quantile": self.parts(last)}

    def parts(self, values: list[float]) -> dict[str, Any]:
        lines, treaties = values[:len(self.lines)], values[len(self.lines):]
        return {"lines": lines, "treaties": treaties, "net": sum_of(lines) - sum_of(treaties)}

    # --- Capital

    def capital_level(self) -> Level:
        return level_of(self.args.get("capital", {}).get("level", CAPITAL_LEVEL))

    def diversification(self) -> dict[str, Any]:
        level = self.capital_level()
        of_lines = sum_of([line.order().var(*level) / self.u for line in self.lines])
        together = self.gross.order().var(*level) / self.u
        return {"level": f64(level[0]) / f64(level[1]), "sum_of_lines": of_lines, "together": together,
                "benefit": (of_lines - together) / of_lines if of_lines != 0 else None}

    def capital(self) -> dict[str, Any]:
        """Section 11.1: `capital_adequacy_signal`."""
        own_funds = minor_units(self.args["capital"]["own_funds"], self.units)
        funds = f64(own_funds) / self.u
        measure = self.args["capital"]["measure"]
        tail = tail_figures(self.net.order(), self.capital_level(), self.units)
        scr, low, high = tail[measure], tail[f"{measure}_low"], tail[f"{measure}_high"]
        signal = "undecided"
        if high is not None and funds >= high:
            signal = "adequate"
        elif low is not None and funds < low:
            signal = "inadequate"
        return {"scr": scr, "ratio": funds / scr if scr != 0 else None, "ratio_low": ratio_of(funds, high),
                "ratio_high": ratio_of(funds, low), "ruin_probability": self.ruin_probability(own_funds),
                "signal": signal}

    def ruin_probability(self, own_funds: int) -> float:
        above = 0.0
        for piece in self.net.order().pieces:
            if piece.high > own_funds:
                part = 1.0 if piece.low > own_funds else f64(piece.high - own_funds) / f64(piece.high - piece.low)
                above += f64(piece.count) * part
        return above / f64(self.n)


def has_annual_limit(treaty: Treaty) -> bool:
    """Section 11.1: whether `exhaustion_probability` is a number."""
    terms = treaty.terms
    if isinstance(terms, OccurrenceXl):
        return terms.annual.limit < MAX
    return isinstance(terms, AggregateXl) and terms.layer.limit < MAX


def ratio_of(funds: float, bound: Optional[float]) -> Optional[float]:
    return funds / bound if bound is not None and bound > 0 else None


def sum_of(values: list[float]) -> float:
    """Section 11.1: Σ, one addition a term, from 0."""
    total = 0.0
    for value in values:
        total += value
    return total

"""The `output` of risk.compound.v1 (section 11.1 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

from forge_compound import millionths
from forge_details import BITS, Quantity
from forge_distribution import Distribution, bucket_low, bucket_of
from forge_checks import checks_of
from forge_moments import Moments
from forge_program import (ANNUAL, CLAIMS, MAX, MILLION, AggregateXl, OccurrenceXl, Program, QuotaShare, Treaty,
                           minor_units)
from forge_shard import ShardResult
from forge_subjects import Subjects
from forge_stats import Order, f64, moments_of, scaled, tail_figures

CAPITAL_LEVEL = 0.995  # of `diversification` without `capital`

Level = tuple[int, int]  # a and b of p = a/b


def level_of(level: float) -> Level:
    return millionths(level), MILLION


class Amount(NamedTuple):
    """An amount with figures: its sums, its distribution, and its highest moment."""

    sum: int
    sum_of_squares: int
    distribution: Distribution
    highest: int

    def order(self) -> Order:
        return Order(self.distribution)


Amounts = dict[str, Optional[Amount]]


def amount_of(quantity: Quantity, highest: int) -> Amount:
    return Amount(quantity.sum, quantity.sum_of_squares, quantity.distribution, highest)


class Output:
    """Section 11.1: makes `output` from normalised args, their program and a result."""

    def __init__(self, args: dict[str, Any], program: Program, result: ShardResult) -> None:
        self.args = args
        self.program = program
        self.result = result
        self.units = program.units
        self.u = f64(program.units)
        self.n = result.iterations
        self.moments = Moments(args, program)
        amounts = [amount_of(quantity, highest)
                   for quantity, highest in zip(result.details.quantities, self.moments.of_quantities())]
        self.net = Amount(result.sum, result.sum_of_squares, result.total, self.moments.after(None))
        self.gross = amounts[0]
        self.lines = amounts[1:1 + program.lines]
        steps = max(0, len(program.steps()) - 1)
        self.steps = amounts[1 + program.lines:1 + program.lines + steps] + [self.net]
        self.ceded = amounts[1 + program.lines + steps:][:len(program.treaties)]
        self.subjects = Subjects(program)
        largest = amounts[len(amounts) - len(self.subjects.subjects):]
        # Section 11.1: the first subject has the distribution `largest`.
        largest[0] = largest[0]._replace(distribution=result.largest)
        self.largest = dict(zip(self.subjects.subjects, largest))
        self.orders: dict[int, Order] = {}
        self.levels = sorted(level_of(level) for level in args["report"]["levels"])
        self.periods = sorted(int(period) for period in args["report"]["return_periods"])

    def output(self, loss_distribution: dict[str, Any]) -> dict[str, Any]:
        allocated = self.args["report"]["allocation"]
        return {
            "net": self.figures(self.net), "gross": self.figures(self.gross), "exceedance": self.exceedance(),
            "largest_occurrence": self.figures(self.after(0)),
            "net_largest_occurrence": self.figures(self.after(self.last_step())),
            "lines": [{"name": name, **some(self.figures, amounts)}
                      for name, amounts in zip(self.args["lines"], self.amounts_of_lines())],
            "steps": [{"step": step, **some(self.figures, amounts)}
                      for step, amounts in zip(self.program.steps(), self.amounts_of_steps())],
            "treaties": [self.treaty(i) for i in range(len(self.program.treaties))],
            "allocation": [{"level": f64(a) / f64(b), **self.allocation(a, b)} for a, b in self.levels
                           if allocated],
            "tail_exposure_surface": [
                {"return_period": period, "lines": self.allocation(period - 1, period)["tail"]["lines"]}
                for period in self.periods if allocated],
            "diversification": self.diversification(),
            "capital_adequacy_signal": self.capital() if "capital" in self.args else None,
            "checks": checks_of(self.args, self.program, self.result, self.moments, self.periods,
                                self.largest_distributions()),
            "loss_distribution": loss_distribution,
        }

    def figures(self, amount: Amount) -> dict[str, Any]:
        """Section 11.1: figures of an amount."""
        moments = moments_of(self.n, amount.sum, amount.sum_of_squares)
        order = self.order_of(amount)
        has_mean, has_variance = amount.highest >= 1, amount.highest >= 2
        return {
            "mean": moments.mean / self.u if has_mean else None,
            "std_dev": scaled(moments.std_dev, self.units) if has_variance else None,
            "std_error": scaled(moments.std_error, self.units) if has_variance else None,
            "min": f64(amount.distribution.minimum) / self.u,
            "max": f64(amount.distribution.maximum) / self.u,
            "zero_probability": f64(amount.distribution.buckets.get(0, 0)) / f64(self.n),
            "quantiles": [{"level": f64(level[0]) / f64(level[1]), **tail_figures(order, level, self.units, amount.highest)}
                          for level in self.levels],
        }

    # --- Amounts of lines, steps and treaties

    def last_step(self) -> int:
        return max(self.program.steps(), default=0)

    def after(self, step: int) -> Amount:
        """The largest occurrence of (t, L, A)."""
        return self.largest[self.subjects.whole(step)]

    def amounts_of_lines(self) -> list[Amounts]:
        return [{"gross": line, "largest_occurrence": self.largest[self.subjects.line(number)]}
                for number, line in enumerate(self.lines)]

    def amounts_of_steps(self) -> list[Amounts]:
        return [{"net": amount, "largest_occurrence": self.after(step)}
                for step, amount in zip(self.program.steps(), self.steps)]

    def amounts_of_treaties(self) -> list[Amounts]:
        subjects = [self.subjects.treaty(treaty) for treaty in self.program.treaties]
        return [{"ceded": ceded, "largest_subject": None if subject is None else self.largest[subject]}
                for ceded, subject in zip(self.ceded, subjects)]

    def largest_distributions(self) -> list[Distribution]:
        """Those of (0, L, A) and of (0, L, {g}) for each group; the first for annual groups, unused."""
        groups = enumerate(self.program.groups)
        subjects = [self.subjects.whole(0) if group.kind == ANNUAL else self.subjects.group(number)
                    for number, group in groups]
        return [self.largest[subject].distribution for subject in [self.subjects.whole(0), *subjects]]

    def exceedance(self) -> list[dict[str, Any]]:
        amounts = {"net": self.net, "gross": self.gross, "largest_occurrence": self.after(0),
                   "net_largest_occurrence": self.after(self.last_step())}
        parts = {"lines": self.amounts_of_lines(), "steps": self.amounts_of_steps(),
                 "treaties": self.amounts_of_treaties()}
        rows = []
        for period in self.periods:
            def tail(amount: Amount, period: int = period) -> dict[str, Any]:
                return tail_figures(self.order_of(amount), (period - 1, period), self.units, amount.highest)

            rows.append({"return_period": period, **some(tail, amounts),
                         **{name: [some(tail, part) for part in of_parts] for name, of_parts in parts.items()}})
        return rows

    def order_of(self, amount: Amount) -> Order:
        """The order of an amount, made once."""
        key = id(amount.distribution)
        if key not in self.orders:
            self.orders[key] = amount.order()
        return self.orders[key]

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
            "name": args["name"], **some(self.figures, self.amounts_of_treaties()[number]),
            "attachment_probability": f64(self.n - ceded.distribution.buckets.get(0, 0)) / n,
            "attaching_occurrences": hits if is_xl else None,
            "exhausting_occurrences": losses if is_xl and "limit" in args else None,
            **self.fractions(number),
            "exhaustion_probability": used_up if has_annual_limit(treaty) else None,
            "premium": self.premium(number),
            "rate_on_line": self.rate_on_line(args),
            "reinstated": [f64(amount) / n / self.u for amount in details.reinstated],
            "reinstatement_premium": self.reinstatement_premium(number),
            "technical_premium": self.technical_premium(number, figures["mean"]) if is_xl else None,
        }

    def fractions(self, number: int) -> dict[str, Optional[float]]:
        """Section 11.1: `attaching_fraction` and `exhausting_fraction`."""
        treaty, drawn, covered = self.program.treaties[number], list(self.result.occurrences), 0
        for position, group in enumerate(self.program.groups):
            of_lines = [amounts for component, amounts in zip(group.components, drawn)
                        if treaty.lines >> component.line & 1]
            drawn = drawn[len(group.components):]
            if treaty.groups >> position & 1 and group.kind != ANNUAL and of_lines:
                covered += sum(of_lines) if group.kind == CLAIMS else of_lines[0]
        hits, losses, _ = self.result.details.treaties[number].counts
        is_known = isinstance(treaty.terms, OccurrenceXl) and covered > 0
        return {"attaching_fraction": f64(hits) / f64(covered) if is_known else None,
                "exhausting_fraction": f64(losses) / f64(covered)
                if is_known and "limit" in self.args["treaties"][number] else None}

    def premium(self, number: int) -> Optional[dict[str, float]]:
        """Section 11.1: `premium`."""
        args, terms = self.args["treaties"][number], self.program.treaties[number].terms
        if "premium" not in args or "attachment_ratio" in args or "limit_ratio" in args:
            return None
        part = terms.cession if isinstance(terms, QuotaShare) else terms.placed
        ceded = f64(minor_units(args["premium"], self.units)) / self.u * (f64(part) / f64(MILLION))
        scale = args.get("commission", 0)
        commission = (self.mean_of(number, lambda m: commission_of(scale, ceded, m)) if isinstance(scale, list)
                      else commission_of(scale, ceded, 0.0))
        profit_commission = 0.0
        if "profit_commission" in args:
            profit = args["profit_commission"]
            profit_commission = self.mean_of(number, lambda m: rate(profit["share"]) * max(
                0.0, ceded * (1 - rate(profit["margin"])) - commission_of(scale, ceded, m) - m))
        return {"ceded": ceded, "commission": commission, "profit_commission": profit_commission,
                "net": ceded - commission - profit_commission}

    def mean_of(self, number: int, value: Callable[[float], float]) -> float:
        """Section 11.1: the mean of a value of what a treaty has ceded."""
        total = 0.0
        for piece in self.order_of(self.ceded[number]).pieces:
            total += f64(piece.count) * value(f64(piece.low + piece.high) / 2 / self.u)
        return total / f64(self.n)

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

    def technical_premium(self, number: int, mean: Optional[float]) -> Optional[float]:
        if mean is None:
            return None
        terms = self.program.treaties[number].terms
        loading = 0.0
        for price, amount in zip(terms.prices, self.result.details.treaties[number].reinstated):
            loading += f64(price) / f64(MILLION) * (f64(amount) / f64(self.n)) / f64(terms.layer.limit)
        return mean / (f64(terms.placed) / f64(MILLION)) / (1 + loading)

    # --- Allocation

    def allocation(self, a: int, b: int) -> dict[str, Any]:
        """Section 11.1: `tail` and `at_quantile` of an allocation."""
        iterations = self.iterations_of_classes()
        t = left = f64(self.n) * (f64(b - a) / f64(b))
        sums = [0.0] * (len(self.lines) + len(self.ceded))
        last: list[float] = []
        for number in sorted(iterations, reverse=True):
            if not left > 0:
                break
            count = f64(iterations[number])
            share = 1.0 if count <= left else left / count
            exact = self.result.details.classes.sums[number]
            sums = [total + share * f64(more) for total, more in zip(sums, exact)]
            left = left - count
            last = [f64(more) / count / self.u for more in exact]
        near = self.parts(last, False, bool(self.ceded))
        return {"tail": self.parts([total / t / self.u for total in sums], True, True), "at_quantile": near}

    def iterations_of_classes(self) -> dict[int, int]:
        """Section 8.1: the iterations of each class of the total."""
        total = self.result.total
        if total.listed is not None:
            return total.listed
        iterations: dict[int, int] = {}
        for bucket, times in total.buckets.items():
            coarse = bucket_of(bucket_low(bucket), BITS)
            iterations[coarse] = iterations.get(coarse, 0) + times
        return iterations

    def parts(self, values: list[float], net: bool, others: bool) -> dict[str, Any]:
        """Section 11.1: parts and `net`. The flags tell which are null without a mean."""
        lines, treaties = values[:len(self.lines)], values[len(self.lines):]
        total: Optional[float] = sum_of(lines) - sum_of(treaties)
        if net and self.net.highest < 1:
            total = None
        if others:
            lines = [value if line.highest >= 1 else None for value, line in zip(lines, self.lines)]
            treaties = [value if ceded.highest >= 1 else None for value, ceded in zip(treaties, self.ceded)]
        return {"lines": lines, "treaties": treaties, "net": total}

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
        tail = tail_figures(self.net.order(), self.capital_level(), self.units, self.net.highest)
        scr, low, high = tail[measure], tail[f"{measure}_low"], tail[f"{measure}_high"]
        signal = "undecided"
        if high is not None and funds >= high:
            signal = "adequate"
        elif low is not None and funds < low:
            signal = "inadequate"
        return {"scr": scr, "ratio": funds / scr if scr is not None and scr != 0 else None, "ratio_low": ratio_of(funds, high),
                "ratio_high": ratio_of(funds, low), "ruin_probability": self.ruin_probability(own_funds),
                "signal": signal}

    def ruin_probability(self, own_funds: int) -> float:
        above = 0.0
        for piece in self.net.order().pieces:
            if piece.high > own_funds:
                part = 1.0 if piece.low > own_funds else f64(piece.high - own_funds) / f64(piece.high - piece.low)
                above += f64(piece.count) * part
        return above / f64(self.n)


def rate(value: Any) -> float:
    """Section 11.1: rate(x)."""
    return f64(millionths(value)) / f64(MILLION)


def commission_of(scale: Any, ceded: float, amount: float) -> float:
    """Section 11.1: the commission of a year in which a treaty cedes an amount."""
    if not isinstance(scale, list):
        return ceded * rate(scale)
    knots = [(rate(knot["loss_ratio"]), rate(knot["rate"])) for knot in scale]
    q = amount / ceded
    if q <= knots[0][0]:
        return ceded * knots[0][1]
    for (low, before), (high, after) in zip(knots, knots[1:]):
        if q <= high:
            return ceded * (before + (after - before) * ((q - low) / (high - low)))
    return ceded * knots[-1][1]


def some(function: Callable[[Amount], Any], amounts: Amounts) -> dict[str, Any]:
    """A function of amounts by name; None for those that there are not."""
    return {name: None if amount is None else function(amount) for name, amount in amounts.items()}


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

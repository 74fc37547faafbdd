"""Args and programs of risk.compound.v1 (sections 6.3 and 12.1 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage. Ranges are not checked: args are valid.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from math import sqrt
from typing import Any, Callable, Iterator

from forge_beta import Beta
from forge_core import SpecError
from forge_families import Burr, Exponential, Gpd, Lomax, Pareto, Uniform, Weibull, closed_table
from forge_gamma import Gamma, log_gamma
from forge_inverse_gaussian import InverseGaussian
from forge_program import (ALL_GROUPS, ANNUAL, CLAIMS, MAX, MILLION, STRIKES, AggregateXl, AmountTable, Component,
                           Group, Layer, OccurrenceXl, Program, QuotaShare, Treaty, lognormal_bits, minor_units)
from forge_tables import (LONG_DIGITS, CountTable, Entry, LogNormal, Normal, QuantileTable, StepTable, bernoulli_table,
                          binomial, constant_table, context, discrete_table, linear_table, negative_binomial, poisson,
                          poisson_table, quantile_table, step_table, summed_table, zero_modified)

INDEX_UNITS = 2**24  # section 6: an index is in units of 2^(−24)

# --- Section 12.1: the normal form
# --------------------------------------------------------------------------------------------------

REPORT = {"allocation": False, "return_periods": [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000],
          "levels": [0.5, 0.9, 0.95, 0.99, 0.995, 0.999]}
CAPITAL = {"measure": "var", "level": 0.995}
TERMS = {"share": 1}
TREATIES = {
    "quota_share": {"step": 1, "commission": 0},
    "occurrence_xl": {"step": 1, "cession": 1, "placed": 1},
    "aggregate_xl": {"step": 1, "placed": 1},
}
COMPONENTS = {"annual": {}, "claims": {**TERMS, "weight": 1}, "strikes": TERMS}
EVENTS = {"frequency": "poisson"}
KINDS = {"annual": ANNUAL, "claims": CLAIMS, "strikes": STRIKES, "events": STRIKES}  # of the forms of a group


def without_null(value: Any) -> Any:
    """Sections 2 and 12.1: `null` counts as absent, −0 is 0."""
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_null(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value


def filled_group(group: dict[str, Any]) -> dict[str, Any]:
    """Section 12.1: a group with its defaults."""
    form = form_of(group)
    if form == "events":
        return {**group, form: {**EVENTS, **group[form]}}
    return {**group, form: [{**COMPONENTS[form], **component} for component in group[form]]}


def filled_treaty(treaty: dict[str, Any]) -> dict[str, Any]:
    """Section 12.1: a treaty with its defaults."""
    treaty = {**TREATIES[treaty["kind"]], **treaty}
    if "profit_commission" in treaty:
        treaty["profit_commission"] = {"margin": 0, **treaty["profit_commission"]}
    return treaty


def normalised_compound(raw: dict[str, Any]) -> dict[str, Any]:
    """Section 12.1: the normal form of args without `iterations` and `convergence`."""
    args = {"decimals": 2, **without_null(raw)}
    args["groups"] = [filled_group(group) for group in args["groups"]]
    args["report"] = {**REPORT, **args.get("report", {})}
    if "capital" in args:
        args["capital"] = {**CAPITAL, **args["capital"]}
    if "treaties" in args:
        args["treaties"] = [filled_treaty(treaty) for treaty in args["treaties"]]
    return {key: value for key, value in args.items() if key not in ("indices", "treaties") or value}


def form_of(group: dict[str, Any]) -> str:
    """Section 12.1: `annual`, `claims`, `strikes` or `events`."""
    (form,) = set(KINDS) & set(group)
    return form


def components_of(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Section 12.1: the args of a group's components; those of events are in `losses`."""
    form = form_of(group)
    return group[form]["losses"] if form == "events" else group[form]


# --- Counts
# --------------------------------------------------------------------------------------------------


def family_of(value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Section 12.1: the family and its parameters; a bare number is the one without a name."""
    ((family, parameters),) = value.items()
    return family, parameters if isinstance(parameters, dict) else {"": parameters}


def one(parameters: dict[str, Any], name: str) -> Any:
    """A parameter that may be written as a bare number."""
    return parameters[""] if "" in parameters else parameters[name]


def discrete(weights: list[float]) -> list[Fraction]:
    """Sections 5.1 and 5.4: the probabilities in proportion to weights."""
    exact = [Fraction(weight) for weight in weights]
    total = sum(exact)
    return [weight / total for weight in exact]


def decimals_of(fractions: list[Fraction]) -> Iterator[Decimal]:
    return iter([Decimal(x.numerator) / x.denominator for x in fractions])


def negative_binomial_of(p: dict[str, Any]) -> Iterator[Decimal]:
    """Section 5.1: negative binomial, of both forms."""
    if "contagion" not in p:
        return negative_binomial(Decimal(p["r"]), Decimal(p["beta"]))
    mean, contagion = Decimal(p["mean"]), Decimal(p["contagion"])
    return negative_binomial(1 / contagion, contagion * mean) if contagion else poisson(mean)


# The probabilities of 0, 1, 2, … in each family.
COUNTS: dict[str, Callable[[dict[str, Any]], Iterator[Decimal]]] = {
    "poisson": lambda p: poisson(Decimal(one(p, "mean"))),
    "bernoulli": lambda p: binomial(1, one(p, "probability")),
    "constant": lambda p: binomial(int(one(p, "count")), 1),
    "geometric": lambda p: negative_binomial(Decimal(1), Decimal(one(p, "mean"))),
    "binomial": lambda p: binomial(int(p["trials"]), p["probability"]),
    "negative_binomial": negative_binomial_of,
    "discrete": lambda p: decimals_of(discrete(p["probabilities"])),
    "zero_modified": lambda p: zero_modified(Decimal(p["p0"]), probabilities_of(p["of"])),
}


def probabilities_of(count: dict[str, Any]) -> Iterator[Decimal]:
    """Sections 5.1 and 12.1: the probabilities of 0, 1, 2, … of a `count`."""
    family, parameters = family_of(count)
    return COUNTS[family](parameters)


def counts_of(count: dict[str, Any]) -> CountTable:
    """Sections 5.1 and 12.1: the count table of a `count`."""
    family, parameters = family_of(count)
    if family == "poisson":
        return poisson_table(one(parameters, "mean"))
    if family == "bernoulli":
        return bernoulli_table(one(parameters, "probability"))
    if family == "constant":
        return constant_table(int(one(parameters, "count")))
    if family == "discrete":
        return discrete_table(discrete(parameters["probabilities"]))
    with localcontext(context(LONG_DIGITS)):
        return summed_table(probabilities_of(count))


# --- Severities
# --------------------------------------------------------------------------------------------------


def power_bits(power: float) -> int:
    """Section 6: `segment_bits` of a law that is nearly a power of the distance from an end."""
    for most, bits in ((4, 6), (9, 7), (20, 8)):
        if power <= most:
            return bits
    raise SpecError("section 6: a larger power is invalid")


def lognormal(p: dict[str, Any]) -> tuple[Any, int]:
    if "mu" in p:
        return LogNormal(p["mu"], p["sigma"]), lognormal_bits(p["sigma"])
    variance = float((1 + Decimal(float(p["cv"]) * p["cv"])).ln())
    sigma = sqrt(variance)
    return LogNormal(float(Decimal(p["mean"]).ln()) - variance / 2, sigma), lognormal_bits(sigma)


def gamma(p: dict[str, Any]) -> tuple[Any, int]:
    if "shape" in p:
        return Gamma(p["shape"], p["scale"]), power_bits(1 / p["shape"])
    square = p["cv"] * p["cv"]
    shape = 1 / square
    return Gamma(shape, p["mean"] * square), power_bits(1 / shape)


def beta(p: dict[str, Any]) -> tuple[Any, int]:
    if "a" in p:
        a, b = p["a"], p["b"]
    else:
        m = p["mean"] / p["scale"]
        r = 1 - m
        n = r / (m * (p["cv"] * p["cv"])) - 1
        a, b = m * n, r * n
    return Beta(a, b, p["scale"]), power_bits(max(1 / a, 1 / b))


def inverse_gaussian(p: dict[str, Any]) -> tuple[Any, int]:
    shape = p["lambda"] / p["mean"] if "lambda" in p else 1 / (p["cv"] * p["cv"])
    return InverseGaussian(p["mean"], shape), 6


def normal(p: dict[str, Any]) -> tuple[Any, int]:
    if "std_dev" in p:
        return Normal(p["mean"], p["std_dev"]), 6
    return Normal(p["mean"], p["mean"] * p["cv"]), 6


def weibull_shape(square: float) -> float:
    """Section 5.2: the shape of the squared coefficient of variation, by halving an interval of its inverse."""
    target = (1 + Decimal(square)).ln()
    low, high = Decimal("0.01"), Decimal(10)
    for _ in range(200):
        middle = (low + high) / 2
        if log_gamma(1 + 2 * middle) - 2 * log_gamma(1 + middle) < target:
            low = middle
        else:
            high = middle
    return float(1 / high)


def weibull(p: dict[str, Any]) -> tuple[Any, int]:
    if "shape" in p:
        shape, scale = p["shape"], p["scale"]
    else:
        shape = weibull_shape(float(p["cv"]) * p["cv"])
        scale = float(Decimal(p["mean"]) / log_gamma(1 + 1 / Decimal(shape)).exp())
    return Weibull(shape, scale), power_bits(1 / shape)


def lomax(p: dict[str, Any]) -> tuple[Any, int]:
    if "alpha" in p:
        alpha, scale = p["alpha"], p["scale"]
    else:
        square = float(p["cv"]) * p["cv"]
        alpha = 2 * square / (square - 1)
        scale = p["mean"] * (alpha - 1)
    return Lomax(scale, alpha), power_bits(1 / alpha)


def gpd(p: dict[str, Any]) -> tuple[Any, int]:
    if "xi" in p:
        scale, xi = p["scale"], p["xi"]
    else:
        excess = float(p["mean"]) - p["threshold"]
        variation = float(p["mean"]) * p["cv"] / excess
        xi = (1 - 1 / (variation * variation)) / 2
        scale = excess * (1 - xi)
    return Gpd(p["threshold"], scale, xi), power_bits(abs(xi))


def uniform(p: dict[str, Any]) -> tuple[Any, int]:
    if "low" in p:
        return Uniform(p["low"], p["high"]), 6
    width = p["mean"] * (p["cv"] * sqrt(3))
    return Uniform(p["mean"] - width, p["mean"] + width), 6


SEVERITIES: dict[str, Callable[[dict[str, Any]], tuple[Any, int]]] = {
    "lognormal": lognormal,
    "exponential": lambda p: (Exponential(one(p, "mean")), 6),
    "gamma": gamma,
    "weibull": weibull,
    "pareto": lambda p: (Pareto(p["threshold"], p["alpha"]), power_bits(1 / p["alpha"])),
    "lomax": lomax,
    "gpd": gpd,
    "burr": lambda p: (Burr(p["alpha"], p["gamma"], p["scale"]),
                       power_bits(max(1 / p["gamma"], 1 / (p["alpha"] * p["gamma"])))),
    "beta": beta,
    "inverse_gaussian": inverse_gaussian,
    "uniform": uniform,
    "normal": normal,
}


def law_table(law: Any, units: int, bits: int) -> list[Entry]:
    """Section 5.2: the table of a law of any family."""
    make = quantile_table if isinstance(law, (LogNormal, Normal)) else closed_table
    return make(law, units, bits)


def discrete_amounts(p: dict[str, Any], units: int) -> StepTable:
    """Section 12.1: `discrete`."""
    return step_table([minor_units(amount, units) for amount in p["amounts"]], discrete(p["probabilities"]))


def empirical(p: dict[str, Any], units: int) -> StepTable:
    """Section 12.1: `empirical`; an amount that occurs several times is stored as often."""
    amounts = sorted(minor_units(amount, units) for amount in p["sample"])
    return step_table(amounts, [Fraction(1, len(amounts))] * len(amounts))


# The families whose tables list amounts in minor units.
LISTS: dict[str, Callable[[dict[str, Any], int], AmountTable]] = {
    "constant": lambda p, units: StepTable([], [minor_units(p[""], units)]),
    "discrete": discrete_amounts,
    "empirical": empirical,
    "piecewise": lambda p, units: linear_table([minor_units(amount, units) for amount in p["amounts"]],
                                               p["probabilities"]),
}


def amounts_of(value: dict[str, Any], units: int) -> AmountTable:
    """Sections 5.2, 5.3, 5.5 and 12.1: the amount table of a severity or of an index."""
    family, parameters = family_of(value)
    if family in LISTS:
        return LISTS[family](parameters, units)
    if family not in SEVERITIES:
        raise SpecError(f"the family {family} is not implemented")
    with localcontext(context(LONG_DIGITS)):
        law, bits = SEVERITIES[family](parameters)
    return QuantileTable(bits, law_table(law, units, bits))


# --- Section 12.1: events
# --------------------------------------------------------------------------------------------------


def event_counts(events: dict[str, Any]) -> CountTable:
    """Section 12.1: the count table of events, whose mean is the binary64 nearest to the sum of the
    rates.
    """
    mean = float(sum(Fraction(rate) for rate in events["rates"]))
    if events["frequency"] == "poisson":
        return counts_of({"poisson": mean})
    family, parameters = family_of(events["frequency"])
    return counts_of({family: {"mean": mean, **parameters}})


def event_tables(events: dict[str, Any], units: int) -> list[StepTable]:
    """Section 12.1: the step tables of events, one for each of `losses`. Events are in ascending
    order of their totals, and equal totals in the order of the list.
    """
    losses = [[minor_units(amount, units) for amount in loss["amounts"]] for loss in events["losses"]]
    totals = [sum(amounts) for amounts in zip(*losses)]
    order = sorted(range(len(totals)), key=totals.__getitem__)
    probabilities = discrete([events["rates"][event] for event in order])
    return [step_table([amounts[event] for event in order], probabilities) for amounts in losses]


# --- Section 6.3: the program
# --------------------------------------------------------------------------------------------------


def millionths(value: float) -> int:
    """Section 12.1: the millionths of a number with at most six decimals."""
    a = round(Fraction(value) * MILLION)
    if float(a) / float(MILLION) != value:
        raise SpecError(f"{value} has more than six decimals")
    return a


def component_names(group: dict[str, Any]) -> list[str]:
    """The names of a group's components in section 11: group, line, and the component's number where
    the line has several.
    """
    lines = [component["line"] for component in components_of(group)]
    names = []
    for position, line in enumerate(lines):
        number = f" {position + 1}" if lines.count(line) > 1 else ""
        names.append(f"{group['name']} {line}{number}")
    return names


class Builder:
    """Section 6.3: makes the program of normalised args."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args = args
        self.units = 10 ** int(args["decimals"])
        self.indices = [index["name"] for index in args.get("indices", [])]
        self.groups = [group["name"] for group in args["groups"]]

    def amount(self, terms: dict[str, Any], name: str, otherwise: int) -> int:
        return minor_units(terms[name], self.units) if name in terms else otherwise

    def component(self, component: dict[str, Any], name: str) -> Component:
        index = component.get("index")
        severity = component["amount"] if "amount" in component else component["severity"]
        deductible = "franchise" if "franchise" in component else "deductible"
        return Component(
            name, amounts_of(severity, self.units),
            self.args["lines"].index(component["line"]), None if index is None else self.indices.index(index),
            component.get("rank") == "same", self.amount(component, deductible, 0), "franchise" in component,
            self.amount(component, "limit", MAX), millionths(component.get("share", 1)))

    def event_group(self, group: dict[str, Any]) -> Group:
        events, names = group["events"], component_names(group)
        components = [
            Component(name, table, self.args["lines"].index(loss["line"]), same_rank=position > 0)
            for position, (name, table, loss) in enumerate(zip(names, event_tables(events, self.units), events["losses"]))]
        return Group(KINDS["events"], event_counts(events), components)

    def group(self, group: dict[str, Any]) -> Group:
        form = form_of(group)
        if form == "events":
            return self.event_group(group)
        kind = KINDS[form]
        counts = constant_table(0) if kind == ANNUAL else counts_of(group["count"])
        picks = None
        if kind == CLAIMS and len(group[form]) > 1:
            picks = discrete_table(discrete([component["weight"] for component in group[form]]))
        components = [self.component(component, name) for component, name in zip(group[form], component_names(group))]
        return Group(kind, counts, components, picks)

    def occurrence_xl(self, treaty: dict[str, Any]) -> OccurrenceXl:
        limit = self.amount(treaty, "limit", MAX)
        annual_limit = self.amount(treaty, "aal", MAX)
        prices = treaty.get("reinstatements")
        if prices is not None:
            annual_limit = min(annual_limit, limit * (1 + len(prices)))
        return OccurrenceXl(
            Layer(limit, self.amount(treaty, "attachment", 0)), Layer(annual_limit, self.amount(treaty, "aad", 0)),
            millionths(treaty["cession"]), millionths(treaty["placed"]), self.amount(treaty, "premium", 0),
            tuple(millionths(price) for price in prices or []))

    def ratio_or_amount(self, treaty: dict[str, Any], name: str, otherwise: int) -> int:
        if f"{name}_ratio" not in treaty:
            return self.amount(treaty, name, otherwise)
        premium = minor_units(treaty["premium"], self.units)
        return min((premium * millionths(treaty[f"{name}_ratio"]) + MILLION // 2) // MILLION, MAX)

    def aggregate_xl(self, treaty: dict[str, Any]) -> AggregateXl:
        layer = Layer(self.ratio_or_amount(treaty, "limit", MAX), self.ratio_or_amount(treaty, "attachment", 0))
        return AggregateXl(layer, millionths(treaty["placed"]))

    def treaty(self, treaty: dict[str, Any]) -> Treaty:
        lines = sum(1 << self.args["lines"].index(line) for line in treaty["covers"])
        groups = ALL_GROUPS
        if "groups" in treaty:
            groups = sum(1 << self.groups.index(group) for group in treaty["groups"])
        if treaty["kind"] == "quota_share":
            terms: Any = QuotaShare(millionths(treaty["cession"]), self.amount(treaty, "event_limit", MAX))
        elif treaty["kind"] == "occurrence_xl":
            terms = self.occurrence_xl(treaty)
        else:
            terms = self.aggregate_xl(treaty)
        return Treaty(int(treaty["step"]), lines, groups, terms)

    def index(self, index: dict[str, Any]) -> AmountTable:
        return amounts_of({key: value for key, value in index.items() if key != "name"}, INDEX_UNITS)

    def program(self) -> Program:
        return Program(
            self.units, 0, MAX, len(self.args["lines"]), [self.group(group) for group in self.args["groups"]],
            [self.index(index) for index in self.args.get("indices", [])],
            [self.treaty(treaty) for treaty in self.args.get("treaties", [])], details=True,
            allocation=self.args["report"]["allocation"])


def compound_program(args: dict[str, Any]) -> Program:
    """Section 6.3."""
    return Builder(args).program()

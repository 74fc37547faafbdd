"""Absent moments (section 11.1 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

from forge_compound import form_of
from forge_program import MAX, MILLION, AggregateXl, OccurrenceXl, Program, QuotaShare, Treaty


class Heavy(NamedTuple):
    """A heavy component: its group, its line, whether the group is annual, and its tail index."""

    group: int
    line: int
    annual: bool
    alpha: float


def tail_index(law: dict[str, Any]) -> Optional[float]:
    for name in ("pareto", "lomax"):
        if name in law:
            return law[name]["alpha"]
    if "gpd" in law and law["gpd"]["xi"] > 0:
        return 1 / law["gpd"]["xi"]
    if "burr" in law:
        return law["burr"]["alpha"] * law["burr"]["gamma"]
    return None


def heavy_components(args: dict[str, Any]) -> list[Heavy]:
    factors = {index["name"]: tail_index(index) for index in args.get("indices", [])}
    found = []
    for number, group in enumerate(args["groups"]):
        annual = form_of(group) == "annual"
        for component in group[form_of(group)]:
            law = component["amount" if annual else "severity"]
            law_tail = tail_index(law) if isinstance(law, dict) else None
            tails = [alpha for alpha in (law_tail, factors.get(component.get("index"))) if alpha is not None]
            if tails and "limit" not in component:
                found.append(Heavy(number, args["lines"].index(component["line"]), annual, min(tails)))
    return found


def is_limited(treaty: Treaty) -> bool:
    terms = treaty.terms
    if isinstance(terms, QuotaShare):
        return terms.event_limit < MAX
    return terms.layer.limit < MAX or (isinstance(terms, OccurrenceXl) and terms.annual.limit < MAX)


def applies(treaty: Treaty, heavy: Heavy) -> bool:
    if not (treaty.lines >> heavy.line & 1 and treaty.groups >> heavy.group & 1):
        return False
    terms = treaty.terms
    by_occurrence = isinstance(terms, OccurrenceXl) or (isinstance(terms, QuotaShare) and is_limited(treaty))
    return not (heavy.annual and by_occurrence)


def takes_tail(treaty: Treaty, heavy: Heavy) -> bool:
    terms = treaty.terms
    fractions = {QuotaShare: lambda: (terms.cession,), OccurrenceXl: lambda: (terms.cession, terms.placed),
                 AggregateXl: lambda: (terms.placed,)}[type(terms)]()
    return applies(treaty, heavy) and not is_limited(treaty) and all(part == MILLION for part in fractions)


class Moments:
    """The highest moment of each amount: 0 for none, 1 for a mean, 2 for more."""

    def __init__(self, args: dict[str, Any], program: Program) -> None:
        self.heavy = heavy_components(args)
        self.program = program

    def highest(self, enters: Callable[[Heavy], bool]) -> int:
        orders = [1 if heavy.alpha > 1 else 0 for heavy in self.heavy if enters(heavy) and heavy.alpha <= 2]
        return min(orders, default=2)

    def is_taken(self, heavy: Heavy, counts: Callable[[int], bool]) -> bool:
        return any(counts(treaty.step) and takes_tail(treaty, heavy) for treaty in self.program.treaties)

    def of_largest(self) -> int:
        return self.highest(lambda heavy: not heavy.annual)

    def after(self, last: Optional[int]) -> int:
        """Of the sum after a step; None for `total`."""
        return self.highest(lambda heavy: not self.is_taken(heavy, lambda step: last is None or step <= last))

    def of_ceded(self, treaty: Treaty) -> int:
        return self.highest(lambda heavy: not is_limited(treaty) and applies(treaty, heavy)
                            and not self.is_taken(heavy, lambda step: step < treaty.step))

    def of_quantities(self) -> list[int]:
        """In the order of the quantities (section 8.1)."""
        lines = [self.highest(lambda heavy, line=line: heavy.line == line) for line in range(self.program.lines)]
        steps = [self.after(step) for step in self.program.steps()[:-1]]
        return [self.highest(lambda heavy: True), *lines, *steps, *map(self.of_ceded, self.program.treaties)]

    def group_has(self, group: int, order: int) -> bool:
        return all(heavy.alpha > order for heavy in self.heavy if heavy.group == group)

"""Moments that do not exist (section 11.1 of docs/determinism.md, "Absent moments").

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from math import inf
from typing import Any, Callable, NamedTuple, Optional

from forge_compound import components_of, family_of
from forge_program import (ANNUAL, MAX, MILLION, AggregateXl, OccurrenceXl, Program,
                           QuotaShare, Treaty)
from forge_subjects import Subject, Subjects

ORDERS = (1, 2, 3, 4)  # the orders that figures and checks ask for

# The families that have a tail index.
TAIL_INDICES: dict[str, Callable[[dict[str, Any]], float]] = {
    "pareto": lambda p: p["alpha"],
    "lomax": lambda p: p["alpha"],
    "gpd": lambda p: 1 / p["xi"] if p["xi"] > 0 else inf,
    "burr": lambda p: p["alpha"] * p["gamma"],
}


class Source(NamedTuple):
    """A component, its place in the program, and its tail index; infinity if it is not heavy."""

    line: int
    group: int
    kind: int
    tail_index: float


def law_tail_index(law: dict[str, Any]) -> float:
    """The tail index of a severity or of an index; infinity without one."""
    family, parameters = family_of(law)
    return TAIL_INDICES[family](parameters) if family in TAIL_INDICES else inf


def component_tail_index(component: dict[str, Any], indices: dict[str, dict[str, Any]]) -> float:
    """The tail index of a component; infinity if it is not heavy. Components of events have no
    severity.
    """
    if "limit" in component:
        return inf
    laws = [component[key] for key in ("amount", "severity") if key in component]
    laws += [indices[component["index"]]] if "index" in component else []
    return min((law_tail_index(law) for law in laws), default=inf)


def is_limited(treaty: Treaty) -> bool:
    """Whether a treaty is limited."""
    terms = treaty.terms
    if isinstance(terms, QuotaShare):
        return terms.event_limit < MAX
    if isinstance(terms, OccurrenceXl):
        return terms.layer.limit < MAX or terms.annual.limit < MAX
    return terms.layer.limit < MAX


def applies(treaty: Treaty, source: Source) -> bool:
    """Whether a treaty applies to a component."""
    if not (treaty.lines >> source.line & 1 and treaty.groups >> source.group & 1):
        return False
    terms = treaty.terms
    if source.kind != ANNUAL or isinstance(terms, AggregateXl):
        return True
    return isinstance(terms, QuotaShare) and not is_limited(treaty)


def takes_tail(treaty: Treaty, source: Source) -> bool:
    """Whether a treaty takes the tail of a component."""
    is_whole = all(getattr(treaty.terms, name, MILLION) == MILLION
                   for name in ("cession", "placed"))
    return applies(treaty, source) and not is_limited(treaty) and is_whole


def highest_moment(sources: list[Source]) -> int:
    """The highest order, up to 4, of which an amount with these components has a moment."""
    return sum(all(source.tail_index > order for source in sources) for order in ORDERS)


class Moments:
    """The highest orders of the moments of a program's amounts, from 0 to 4."""

    def __init__(self, args: dict[str, Any], program: Program) -> None:
        self.program = program
        indices = {index["name"]: {key: law for key, law in index.items() if key != "name"}
                   for index in args.get("indices", [])}
        self.sources = [
            Source(component.line, number, group.kind, component_tail_index(terms, indices))
            for number, (group, group_args) in enumerate(zip(program.groups, args["groups"]))
            for component, terms in zip(group.components, components_of(group_args))]

    def retained(self, enters: Callable[[Treaty], bool]) -> list[Source]:
        """The components whose tail no treaty of those that enter takes."""
        treaties = [treaty for treaty in self.program.treaties if enters(treaty)]
        return [source for source in self.sources
                if not any(takes_tail(treaty, source) for treaty in treaties)]

    def after(self, step: Optional[int]) -> int:
        """Of the sum after a step; of `total` if the step is None."""
        return highest_moment(self.retained(lambda treaty: step is None or treaty.step <= step))

    def ceded(self, treaty: Treaty) -> int:
        """Of what a treaty has ceded."""
        if is_limited(treaty):
            return highest_moment([])
        left = self.retained(lambda other: other.step < treaty.step)
        return highest_moment([source for source in left if applies(treaty, source)])

    def of_line(self, line: int) -> int:
        """Of the gross amount of a line."""
        return highest_moment([source for source in self.sources if source.line == line])

    def of_group(self, group: int) -> int:
        """Of the gross amount of a group."""
        return highest_moment([source for source in self.sources if source.group == group])

    def of_largest(self, subject: Subject) -> int:
        """Of the largest occurrence of a subject in its form."""
        left = self.retained(lambda treaty: treaty.step <= subject.step and not isinstance(treaty.terms, AggregateXl))
        return highest_moment([source for source in left
                               if subject.lines >> source.line & 1 and subject.groups >> source.group & 1])

    def of_quantities(self) -> list[int]:
        """Of the quantities of section 8.1, in their order."""
        return ([highest_moment(self.sources)]
                + [self.of_line(line) for line in range(self.program.lines)]
                + [self.after(step) for step in self.program.steps()[:-1]]
                + [self.ceded(treaty) for treaty in self.program.treaties]
                + [self.of_largest(subject) for subject in Subjects(self.program).subjects])

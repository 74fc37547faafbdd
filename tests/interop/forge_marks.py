"""Marks of docs/determinism.md (section 8.2).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

from forge_execution import layer_part, paid_amount, share_of
from forge_program import (ANNUAL, MAX, MILLION, STRIKES, AggregateXl, Component, OccurrenceXl, Program, QuotaShare,
                           Treaty)
from forge_subjects import Subject, Subjects
from forge_tables import StepTable

MAX_STEP_AMOUNTS = 16  # section 8.2: amounts of a step table whose payments are atoms
MAX_MULTIPLE = 16  # section 8.2: the last multiple of multiples(c, S)
MAX_MARKS = 18  # section 8.2: of a distribution of a program without details
MAX_MARKS_WITH_DETAILS = 64


class Atom(NamedTuple):
    """Section 8.2: a triple; `lines` is a set of bits."""

    amount: int
    group: int
    lines: int


def distinct_amounts(atoms: Iterable[Atom]) -> list[int]:
    """Section 8.2: the set of the amounts of triples."""
    return ascending(atom.amount for atom in atoms)


def ascending(amounts: Iterable[int]) -> list[int]:
    """Section 8.2: a set of amounts, ascending and without 0."""
    return sorted(set(amounts) - {0})


def multiples(start: int, amounts: list[int]) -> list[int]:
    """Section 8.2: multiples(c, S)."""
    return [start] + [start + k * amount for k in range(1, MAX_MULTIPLE + 1) for amount in amounts]


# --- What treaties leave of atoms
# --------------------------------------------------------------------------------------------------


def covers(treaty: Treaty, atom: Atom) -> bool:
    """Section 8.2: whether a treaty has the group and all the lines of a triple."""
    return bool(treaty.groups >> atom.group & 1) and not atom.lines & ~treaty.lines


def layer_share(terms: OccurrenceXl, amount: int) -> int:
    """Section 8.2: r(a) of an occurrence XL."""
    return layer_part(share_of(amount, terms.cession), terms.layer)


def occurrence_payment(treaty: Treaty, amount: int) -> int:
    """Section 8.2: what a treaty pays for an occurrence atom that it covers."""
    terms = treaty.terms
    if isinstance(terms, QuotaShare):
        return min(share_of(amount, terms.cession), terms.event_limit)
    if isinstance(terms, OccurrenceXl):
        return share_of(layer_share(terms, amount), terms.placed)
    return 0


def fixed_payment(treaty: Treaty, amount: int) -> int:
    """Section 8.2: what a treaty pays for a fixed amount that it covers."""
    terms = treaty.terms
    if isinstance(terms, QuotaShare) and terms.event_limit == MAX:
        return share_of(amount, terms.cession)
    return 0


def atoms_of(component: Component) -> list[int]:
    """Section 8.2: the atoms of a component."""
    atoms = [share_of(component.limit, component.share)] if component.limit < MAX else []
    table = component.amounts
    if component.index is None and isinstance(table, StepTable) and len(table.amounts) <= MAX_STEP_AMOUNTS:
        atoms += [paid_amount(component, amount) for amount in table.amounts]
    return ascending(atoms)


class Marks:
    """Section 8.2: makes the marks of all distributions of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.all_lines = (1 << program.lines) - 1
        steps = program.steps()
        self.last = steps[-1] if steps else 0

    # --- Sets of lines

    def components(self, lines: int, annual: bool) -> list[tuple[int, Component]]:
        """The components with a line in `lines`, with the numbers of their groups."""
        return [(number, component) for number, group in enumerate(self.program.groups)
                if (group.kind == ANNUAL) == annual
                for component in group.components if lines >> component.line & 1]

    def occurrence_atoms(self, lines: int) -> list[Atom]:
        """Section 8.2: the occurrence atoms of a set of lines."""
        found = []
        for number, group in enumerate(self.program.groups):
            if group.kind == ANNUAL:
                continue
            struck = [component for component in group.components if lines >> component.line & 1]
            atoms = [atoms_of(component) for component in struck]
            found += [Atom(amount, number, 1 << component.line)
                      for component, some in zip(struck, atoms) for amount in some]
            if group.kind == STRIKES and len(struck) > 1 and all(atoms):
                together = 0
                for component in struck:
                    together |= 1 << component.line
                found.append(Atom(sum(some[-1] for some in atoms), number, together))
        return found

    def fixed_amounts(self, lines: int) -> list[Atom]:
        """Section 8.2: the fixed amounts of a set of lines, one for each component."""
        return [Atom(paid_amount(component, component.amounts.amounts[0]), number, 1 << component.line)
                for number, component in self.components(lines, annual=True)
                if component.index is None and isinstance(component.amounts, StepTable)
                and len(component.amounts.amounts) == 1]

    def left(self, atoms: list[Atom], step: int, payment: Callable[[Treaty, int], int]) -> list[Atom]:
        """Section 8.2: what a step leaves of triples."""
        treaties = [treaty for treaty in self.program.treaties if treaty.step == step]
        return [atom._replace(amount=max(0, atom.amount - sum(
            payment(treaty, atom.amount) for treaty in treaties if covers(treaty, atom)))) for atom in atoms]

    def steps_up_to(self, step: int) -> list[int]:
        return [distinct for distinct in self.program.steps() if distinct <= step]

    def step_before(self, step: int) -> int:
        """Section 8.2: p, the distinct step before one, or 0."""
        return max((distinct for distinct in self.program.steps() if distinct < step), default=0)

    def retentions(self, lines: int, step: int) -> list[Atom]:
        """Section 8.2: the attachments that a step adds to O(J, t)."""
        found = []
        for treaty in self.program.treaties:
            terms = treaty.terms
            if treaty.step != step or not isinstance(terms, OccurrenceXl):
                continue
            if terms.cession != MILLION or terms.placed != MILLION:
                continue
            atoms = [Atom(terms.layer.attachment, number, 1 << component.line)
                     for number, component in self.components(lines, annual=False)]
            found += [atom for atom in atoms if covers(treaty, atom)]
        return found

    def occurrence(self, lines: int, step: int) -> list[Atom]:
        """Section 8.2: O(J, t)."""
        atoms = self.occurrence_atoms(lines)
        for distinct in self.steps_up_to(step):
            atoms = self.left(atoms, distinct, occurrence_payment) + self.retentions(lines, distinct)
        return atoms

    def fixed(self, lines: int, step: int) -> list[Atom]:
        """Section 8.2: the fixed amounts of J, each as the steps up to t leave it."""
        atoms = self.fixed_amounts(lines)
        for distinct in self.steps_up_to(step):
            atoms = self.left(atoms, distinct, fixed_payment)
        return atoms

    def constant(self, lines: int, step: int) -> int:
        """Section 8.2: C(J, t)."""
        return sum(atom.amount for atom in self.fixed(lines, step))

    # --- Candidates

    def attachments(self, step: int) -> list[int]:
        """The attachments of aggregate XL treaties of steps up to `step`."""
        return [treaty.terms.layer.attachment for treaty in self.program.treaties
                if isinstance(treaty.terms, AggregateXl) and treaty.step <= step]

    def of_sum(self, lines: int, step: int) -> list[int]:
        """Section 8.2: multiples(C(J, t), O(J, t))."""
        return multiples(self.constant(lines, step), distinct_amounts(self.occurrence(lines, step)))

    def of_total(self) -> list[int]:
        constant = self.program.base + self.constant(self.all_lines, self.last)
        return [constant, self.program.cap, *self.attachments(self.last),
                *distinct_amounts(self.occurrence(self.all_lines, 0)),
                *multiples(constant, distinct_amounts(self.occurrence(self.all_lines, self.last)))]

    def covered(self, treaty: Treaty) -> list[int]:
        """Section 8.2: S of a treaty that is no aggregate XL."""
        atoms = self.occurrence(treaty.lines, self.step_before(treaty.step))
        return distinct_amounts(atom for atom in atoms if covers(treaty, atom))

    def of_ceded(self, treaty: Treaty) -> list[int]:
        terms = treaty.terms
        if isinstance(terms, AggregateXl):
            candidates = [share_of(terms.layer.limit, terms.placed)] if terms.layer.limit < MAX else []
            return candidates + [share_of(layer_part(amount, terms.layer), terms.placed)
                                 for amount in self.of_sum(treaty.lines, self.step_before(treaty.step))]
        if isinstance(terms, OccurrenceXl):
            return self.of_ceded_by_occurrence_xl(terms, self.covered(treaty))
        payments = [occurrence_payment(treaty, amount) for amount in self.covered(treaty)]
        if terms.event_limit < MAX:
            payments.append(terms.event_limit)
        fixed = self.fixed(treaty.lines, self.step_before(treaty.step))
        constant = sum(fixed_payment(treaty, atom.amount) for atom in fixed if covers(treaty, atom))
        return multiples(constant, ascending(payments))

    @staticmethod
    def of_ceded_by_occurrence_xl(terms: OccurrenceXl, covered: list[int]) -> list[int]:
        parts = [layer_share(terms, amount) for amount in covered]
        if terms.layer.limit < MAX:
            parts.append(terms.layer.limit)
        candidates = [terms.annual.limit] if terms.annual.limit < MAX else []
        candidates += [layer_part(k * part, terms.annual)
                       for k in range(1, MAX_MULTIPLE + 1) for part in ascending(parts)]
        return [share_of(amount, terms.placed) for amount in candidates]

    def of_largest(self, subject: Subject) -> list[int]:
        return distinct_amounts(atom for atom in self.occurrence(subject.lines, subject.step)
                                if subject.groups >> atom.group & 1)

    # --- Marks

    def chosen(self, candidates: list[int]) -> list[int]:
        """Section 8.2: the first distinct candidates, ascending."""
        most = MAX_MARKS_WITH_DETAILS if self.program.details else MAX_MARKS
        distinct = dict.fromkeys(amount for amount in candidates if 1 <= amount < MAX)
        return sorted(list(distinct)[:most])

    def total(self) -> list[int]:
        """Section 8.2: the marks of `total` and of `largest`."""
        return self.chosen([amount for amount in self.of_total() if amount <= self.program.cap])

    def quantities(self) -> list[list[int]]:
        """Section 8.2: the marks of each quantity, in the order of section 8.1."""
        candidates = [self.of_sum(self.all_lines, 0)]
        candidates += [self.of_sum(1 << line, 0) for line in range(self.program.lines)]
        candidates += [self.attachments(step) + self.of_sum(self.all_lines, step) for step in self.program.steps()[:-1]]
        candidates += [self.of_ceded(treaty) for treaty in self.program.treaties]
        candidates += [self.of_largest(subject) for subject in Subjects(self.program).subjects]
        return [self.chosen(some) for some in candidates]

"""Subjects of docs/determinism.md (section 8.1), whose largest occurrences are quantities.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from forge_execution import Iteration
from forge_program import ANNUAL, AggregateXl, Program, Treaty


class Subject(NamedTuple):
    """A step, a set of lines and a set of groups; the sets are bits."""

    step: int
    lines: int
    groups: int


def formed(program: Program, subject: Subject) -> Subject:
    """The form of a subject."""
    steps = [treaty.step for treaty in program.treaties
             if treaty.step <= subject.step and not isinstance(treaty.terms, AggregateXl)]
    lines = groups = 0
    for number, group in enumerate(program.groups):
        struck = 0
        for component in group.components:
            struck |= 1 << component.line
        if group.kind != ANNUAL and subject.groups >> number & 1 and struck & subject.lines:
            groups |= 1 << number
            lines |= struck
    return Subject(max(steps, default=0), lines & subject.lines, groups)


class Subjects:
    """The subjects of a program, in their order, each in its form."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.all_lines = (1 << program.lines) - 1
        self.all_groups = (1 << len(program.groups)) - 1
        everything = [self.whole(0)]
        everything += [self.line(line) for line in range(program.lines)]
        everything += [self.group(number) for number, group in enumerate(program.groups) if group.kind != ANNUAL]
        everything += [self.whole(step) for step in program.steps()]
        everything += [subject for subject in map(self.treaty, program.treaties) if subject is not None]
        self.subjects = list(dict.fromkeys(everything))

    def whole(self, step: int) -> Subject:
        """(t, L, A)."""
        return formed(self.program, Subject(step, self.all_lines, self.all_groups))

    def line(self, line: int) -> Subject:
        """(0, {i}, A)."""
        return formed(self.program, Subject(0, 1 << line, self.all_groups))

    def group(self, group: int) -> Subject:
        """(0, L, {g})."""
        return formed(self.program, Subject(0, self.all_lines, 1 << group))

    def treaty(self, treaty: Treaty) -> Optional[Subject]:
        """That of a treaty; None for an aggregate XL."""
        if isinstance(treaty.terms, AggregateXl):
            return None
        before = max((step for step in self.program.steps() if step < treaty.step), default=0)
        return formed(self.program, Subject(before, treaty.lines, treaty.groups))

    def largest(self, year: Iteration) -> list[int]:
        """The largest occurrence of each subject in an iteration."""
        steps = self.program.steps()
        return [max((sum(amount for line, amount in enumerate(left[sum(step <= subject.step for step in steps)])
                         if subject.lines >> line & 1)
                     for group, left in year.occurrences if subject.groups >> group & 1), default=0)
                for subject in self.subjects]

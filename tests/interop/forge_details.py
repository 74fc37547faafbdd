"""Details of shard results of docs/determinism.md (section 8.1).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from forge_core import le, varint
from forge_distribution import Distribution, bucket_of, numbered_bytes
from forge_execution import Iteration, TreatyYear
from forge_program import MAX, OccurrenceXl, Program, Treaty
from forge_subjects import Subjects

BITS = 8  # section 8.1: the resolution of quantities, and of classes that are buckets


def cut(amount: int) -> int:
    """Section 8.1: all amounts are cut to MAX first."""
    return min(amount, MAX)


# --- Aggregates
# --------------------------------------------------------------------------------------------------


class GroupDetails:
    """Section 8.1: the details of a group."""

    def __init__(self) -> None:
        self.sums = [0] * 5  # Σ c, Σ c², iterations without loss, Σ g, Σ g²

    def add(self, count: int, gross: int) -> None:
        more = (count, count * count, gross == 0, gross, gross * gross)
        self.sums = [a + b for a, b in zip(self.sums, more)]

    def merge(self, other: GroupDetails) -> None:
        self.sums = [a + b for a, b in zip(self.sums, other.sums)]

    def to_bytes(self) -> bytes:
        count, squares, without, gross, gross_squares = self.sums
        return varint(count) + le(squares, 16) + varint(without) + le(gross, 16) + le(gross_squares, 32)


class TreatyDetails:
    """Section 8.1: the details of a treaty."""

    def __init__(self, treaty: Treaty) -> None:
        prices = treaty.terms.prices if isinstance(treaty.terms, OccurrenceXl) else ()
        self.counts = [0] * 3  # occurrences with r > 0, with r = limit; iterations used up
        self.reinstated = [0] * len(prices)
        self.premium = 0
        self.premium_squares = 0

    def add(self, year: TreatyYear) -> None:
        more = (year.layer_hits, year.layer_losses, year.is_used_up())
        self.counts = [a + b for a, b in zip(self.counts, more)]
        self.reinstated = [a + b for a, b in zip(self.reinstated, year.reinstated())]
        premium = year.premium()
        self.premium += premium
        self.premium_squares += premium * premium

    def merge(self, other: TreatyDetails) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts)]
        self.reinstated = [a + b for a, b in zip(self.reinstated, other.reinstated)]
        self.premium += other.premium
        self.premium_squares += other.premium_squares

    def to_bytes(self) -> bytes:
        parts = [varint(count) for count in self.counts] + [varint(len(self.reinstated))]
        parts += [le(amount, 16) for amount in self.reinstated]
        return b"".join(parts + [le(self.premium, 16), le(self.premium_squares, 32)])


class Quantity:
    """Section 8.1: the sums and the distribution of a quantity."""

    def __init__(self, marks: list[int]) -> None:
        self.sum = 0
        self.sum_of_squares = 0
        self.distribution = Distribution(marks, BITS, lists=True)

    def add(self, amount: int) -> None:
        self.sum += amount
        self.sum_of_squares += amount * amount
        self.distribution.add(amount)

    def merge(self, other: Quantity) -> None:
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares
        self.distribution.merge(other.distribution)

    def to_bytes(self) -> bytes:
        marks = varint(len(self.distribution.marks))
        return (le(self.sum, 16) + le(self.sum_of_squares, 32) + marks + self.distribution.to_bytes()
                + self.distribution.amounts_bytes())


class Classes:
    """Section 8.1: the sums of the classes of the total: of its amounts while they are listed, then
    of its buckets.
    """

    def __init__(self) -> None:
        self.are_buckets = False
        self.sums: dict[int, list[int]] = {}

    def add(self, number: int, sums: list[int]) -> None:
        self.sums[number] = [a + b for a, b in zip(self.sums.get(number, [0] * len(sums)), sums)]

    def merge(self, other: Classes, are_buckets: bool) -> None:
        """`are_buckets`: whether the merged total lists no amounts."""
        if are_buckets and not self.are_buckets:
            amounts, self.sums, self.are_buckets = self.sums, {}, True
            for amount, sums in amounts.items():
                self.add(bucket_of(amount, BITS), sums)
        for number, sums in other.sums.items():
            become_buckets = are_buckets and not other.are_buckets
            self.add(bucket_of(number, BITS) if become_buckets else number, sums)

    def to_bytes(self) -> bytes:
        return numbered_bytes({number: [len(sums), *sums] for number, sums in self.sums.items()})


def quantities_of(year: Iteration, subjects: Subjects) -> list[int]:
    """Section 8.1: the quantities of an iteration."""
    gross = year.years[0]
    amounts = [sum(gross)] + gross + [sum(after) for after in year.years[1:-1]]
    amounts += [treaty.ceded for treaty in year.treaties] + subjects.largest(year)
    return [cut(amount) for amount in amounts]


class Details:
    """Section 8.1: the details of a shard result. Its distributions `total` and `largest` are
    arguments, and hold the iterations that are added or merged already.
    """

    def __init__(self, program: Program, quantity_marks: list[list[int]]) -> None:
        self.allocation = program.allocation
        self.subjects = Subjects(program)
        self.groups = [GroupDetails() for _ in program.groups]
        self.treaties = [TreatyDetails(treaty) for treaty in program.treaties]
        self.quantities = [Quantity(marks) for marks in quantity_marks]
        self.classes = Classes()

    def add(self, year: Iteration, total: Distribution) -> None:
        for group, count, gross in zip(self.groups, year.counts, year.group_gross):
            group.add(count, cut(gross))
        for details, treaty in zip(self.treaties, year.treaties):
            details.add(treaty)
        for quantity, amount in zip(self.quantities, quantities_of(year, self.subjects)):
            quantity.add(amount)
        if self.allocation:
            sums = [cut(amount) for amount in year.years[0]] + [cut(treaty.ceded) for treaty in year.treaties]
            one = Classes()
            one.add(year.total(), sums)
            self.classes.merge(one, total.listed is None)

    def merge(self, other: Details, total: Distribution) -> None:
        for name in ("groups", "treaties", "quantities"):
            for ours, theirs in zip(getattr(self, name), getattr(other, name)):
                ours.merge(theirs)
        self.classes.merge(other.classes, total.listed is None)

    def to_bytes(self, total: Distribution, largest: Distribution) -> bytes:
        parts = []
        for some in (self.groups, self.treaties, self.quantities):
            parts += [varint(len(some))] + [item.to_bytes() for item in some]
        return b"".join(parts + [total.amounts_bytes(), largest.amounts_bytes(), self.classes.to_bytes()])

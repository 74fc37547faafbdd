"""Shard results of docs/determinism.md (section 8).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from forge_core import LEAF_ITERATIONS, le, leaf_seed, sha256, stream, varint
from forge_details import Details
from forge_distribution import Distribution
from forge_execution import Iteration
from forge_marks import Marks
from forge_program import Program


class ShardResult:
    """Section 8: the result of a set of iterations; of none, the identity of the merge."""

    def __init__(self, components: int, marks: list[int], details: Details | None = None) -> None:
        self.iterations = 0
        self.at_cap = 0
        self.sum = 0
        self.sum_of_squares = 0
        self.occurrences = [0] * components
        self.capped = [0] * components
        self.total = Distribution(marks, lists=details is not None)
        self.largest = Distribution(marks, lists=details is not None)
        self.details = details

    def add(self, total: int, largest: int, cap: int, times: int = 1) -> None:
        """Section 8: adds iterations; the caller counts their amounts and adds their details."""
        self.iterations += times
        self.at_cap += times * (total == cap)
        self.sum += times * total
        self.sum_of_squares += times * total * total
        self.total.add(total, times)
        self.largest.add(largest, times)

    def add_iteration(self, year: Iteration) -> None:
        """Section 8: adds an executed iteration."""
        self.add(year.total(), year.largest(), year.program.cap)
        self.occurrences = [a + b for a, b in zip(self.occurrences, year.drawn)]
        self.capped = [a + b for a, b in zip(self.capped, year.at_limit)]
        if self.details is not None:
            self.details.add(year, self.total)

    def merge(self, other: ShardResult) -> None:
        """Section 8: merging."""
        self.iterations += other.iterations
        self.at_cap += other.at_cap
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares
        self.occurrences = [a + b for a, b in zip(self.occurrences, other.occurrences)]
        self.capped = [a + b for a, b in zip(self.capped, other.capped)]
        self.total.merge(other.total)
        self.largest.merge(other.largest)
        if self.details is not None:
            self.details.merge(other.details, self.total)

    def to_bytes(self) -> bytes:
        """Section 8: the bytes of the shard result."""
        parts = [b"FKSR", le(1, 4), le(self.iterations, 8), le(self.at_cap, 8), le(self.sum, 16),
                 le(self.sum_of_squares, 32), varint(len(self.occurrences))]
        for occurrences, capped in zip(self.occurrences, self.capped):
            parts += [varint(occurrences), varint(capped)]
        parts += [varint(len(self.total.marks)), self.total.to_bytes(), self.largest.to_bytes()]
        parts.append(varint(0) if self.details is None
                     else varint(1) + self.details.to_bytes(self.total, self.largest))
        return b"".join(parts)

    def digest(self) -> str:
        """Section 8: the shard's result hash."""
        return sha256(self.to_bytes()).hex()


def no_iterations(program: Program) -> ShardResult:
    """Section 8: the result of no iterations of a program."""
    marks = Marks(program)
    details = Details(program, marks.quantities()) if program.details else None
    return ShardResult(len(program.components()), marks.total(), details)


def run_leaf(program: Program, seed: bytes, iterations: range, result: ShardResult) -> None:
    """Sections 4 and 7: executes iterations of a leaf and adds them to the result."""
    for iteration in iterations:
        result.add_iteration(Iteration(program, stream(seed, iteration)))


def run_range(program: Program, root: bytes, first: int, last: int) -> ShardResult:
    """Sections 3 and 7: the iterations first … last − 1 of a run (of any leaves)."""
    result = no_iterations(program)
    position = first
    while position < last:
        leaf = position // LEAF_ITERATIONS
        start = leaf * LEAF_ITERATIONS
        end = min(last, start + LEAF_ITERATIONS)
        run_leaf(program, leaf_seed(root, leaf), range(position - start, end - start), result)
        position = end
    return result


def run_shard(program: Program, root: bytes, height: int, index: int, iterations: int) -> ShardResult:
    """Sections 3 and 8: shard h-j of a run of `iterations`, cut off at the run's last iteration."""
    width = LEAF_ITERATIONS << height
    return run_range(program, root, min(index * width, iterations), min((index + 1) * width, iterations))

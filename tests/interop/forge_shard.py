"""Execution and shard results of docs/determinism.md (sections 7 and 8).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from bisect import bisect_right

from forge_core import LEAF_ITERATIONS, SpecError, le, leaf_seed, sha256, stream, varint
from forge_tables import MAX, Component, Entry, Program

M31 = 2**31 - 1
BUCKETS = 45_056  # section 8


# --- Section 7: execution
# ------------------------------------------------------------------------------------------


def amount_of(draw: int, table: list[Entry], bits: int) -> int:
    """Section 7: the amount of a draw, before the component's cap."""
    upper = draw >= 2**63
    distance = 2**64 - 1 - draw if upper else draw
    w = 2 * distance + 1
    rank = w.bit_length() - 1
    n = w << (63 - rank)
    segment = n >> (63 - bits) & ((1 << bits) - 1)
    f = n >> (32 - bits) & M31
    y = M31 - f if upper else f
    left, slope, curve, shift = table[((64 if upper else 0) + rank << bits) + segment]
    bent = slope + (y * curve >> 31)
    if not (-2**31 <= bent < 2**31 and -2**63 <= left * 2**31 + y * bent < 2**63):
        raise SpecError("section 7: an intermediate value does not fit")
    return max(0, left * 2**31 + y * bent) >> shift


def count_of(draw: int, component: Component) -> int:
    """Section 5.1: the count of a draw."""
    offset, thresholds = component.counts
    return offset + bisect_right(thresholds, draw)


# --- Section 8: shard result
# ---------------------------------------------------------------------------------------


def bucket_of(amount: int) -> int:
    """Section 8: the histogram bucket of an amount."""
    if amount < 1024:
        return amount
    k = amount.bit_length() - 11
    return k * 1024 + (amount >> k)


def bucket_low(bucket: int) -> int:
    """Section 8: the smallest amount of a bucket; for bucket 45,056, the smallest amount beyond the
    last.
    """
    if bucket < 1024:
        return bucket
    k = bucket // 1024 - 1
    return (bucket - k * 1024) << k


class Distribution:
    """Section 8: the aggregate of `total` or of `largest`."""

    def __init__(self, marks: list[int]) -> None:
        self.marks = marks
        self.minimum = 2**64 - 1
        self.maximum = 0
        self.on_mark = [0] * len(marks)
        self.buckets: dict[int, int] = {}

    def add(self, amount: int, times: int = 1) -> None:
        self.minimum = min(self.minimum, amount)
        self.maximum = max(self.maximum, amount)
        if amount in self.marks:
            self.on_mark[self.marks.index(amount)] += times
        bucket = bucket_of(amount)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def merge(self, other: Distribution) -> None:
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.on_mark = [a + b for a, b in zip(self.on_mark, other.on_mark)]
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def to_bytes(self) -> bytes:
        parts = [le(self.minimum, 8), le(self.maximum, 8)]
        parts += [varint(times) for times in self.on_mark]
        parts.append(varint(len(self.buckets)))
        previous = -1
        for bucket in sorted(self.buckets):
            parts += [varint(bucket - 1 - previous), varint(self.buckets[bucket])]
            previous = bucket
        return b"".join(parts)


class ShardResult:
    """Section 8: the result of a set of iterations; of none, the identity of the merge."""

    def __init__(self, components: int, marks: list[int]) -> None:
        self.iterations = 0
        self.at_cap = 0
        self.sum = 0
        self.sum_of_squares = 0
        self.occurrences = [0] * components
        self.capped = [0] * components
        self.total = Distribution(marks)
        self.largest = Distribution(marks)

    def add(self, total: int, largest: int, cap: int, times: int = 1) -> None:
        """Section 8: adds an iteration; the caller counts its occurrences."""
        self.iterations += times
        self.at_cap += times * (total == cap)
        self.sum += times * total
        self.sum_of_squares += times * total * total
        self.total.add(total, times)
        self.largest.add(largest, times)

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

    def to_bytes(self) -> bytes:
        """Section 8: the bytes of the shard result."""
        parts = [b"FKSR", le(1, 4), le(self.iterations, 8), le(self.at_cap, 8), le(self.sum, 16),
                 le(self.sum_of_squares, 32), varint(len(self.occurrences))]
        for occurrences, capped in zip(self.occurrences, self.capped):
            parts += [varint(occurrences), varint(capped)]
        parts += [varint(len(self.total.marks)), self.total.to_bytes(), self.largest.to_bytes()]
        return b"".join(parts)

    def digest(self) -> str:
        """Section 8: the shard's result hash."""
        return sha256(self.to_bytes()).hex()


def run_iteration(program: Program, seed: bytes, iteration: int, result: ShardResult) -> None:
    """Sections 4 and 7: executes one iteration of a leaf and adds it to the result."""
    draws = stream(seed, iteration)
    counts = [count_of(next(draws), component) for component in program.components]
    total, largest = program.base, 0
    for index, component in enumerate(program.components):
        for _ in range(counts[index]):
            amount = min(amount_of(next(draws), component.table, program.segment_bits), component.cap)
            result.capped[index] += amount == component.cap
            total += amount
            largest = max(largest, amount)
        result.occurrences[index] += counts[index]
    result.add(min(min(total, MAX), program.cap), min(largest, program.cap), program.cap)


def run_range(program: Program, root: bytes, first: int, last: int) -> ShardResult:
    """Sections 3 and 7: the iterations first … last − 1 of a run (of any leaves)."""
    result = ShardResult(len(program.components), program.marks())
    position = first
    while position < last:
        leaf = position // LEAF_ITERATIONS
        seed = leaf_seed(root, leaf)
        end = min(last, (leaf + 1) * LEAF_ITERATIONS)
        for iteration in range(position - leaf * LEAF_ITERATIONS, end - leaf * LEAF_ITERATIONS):
            run_iteration(program, seed, iteration, result)
        position = end
    return result


def run_shard(program: Program, root: bytes, height: int, index: int, iterations: int) -> ShardResult:
    """Sections 3 and 8: shard h-j of a run of `iterations`, cut off at the run's last iteration."""
    width = LEAF_ITERATIONS << height
    return run_range(program, root, min(index * width, iterations), min((index + 1) * width, iterations))

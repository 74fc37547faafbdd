"""Histogram buckets and distributions of docs/determinism.md (section 8).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from forge_core import le, varint

RESOLUTION = 10  # section 8: B of `total` and `largest`


def bucket_of(amount: int, bits: int = RESOLUTION) -> int:
    """Section 8: the histogram bucket of an amount at a resolution."""
    if amount < 1 << bits:
        return amount
    k = amount.bit_length() - 1 - bits
    return (k << bits) + (amount >> k)


def bucket_low(bucket: int, bits: int = RESOLUTION) -> int:
    """Section 8: the smallest amount of a bucket; for the number of buckets, the smallest amount
    beyond the last.
    """
    if bucket < 1 << bits:
        return bucket
    k = (bucket >> bits) - 1
    return (bucket - (k << bits)) << k


class Distribution:
    """Section 8: the aggregate of `total`, of `largest` or of a quantity."""

    def __init__(self, marks: list[int], bits: int = RESOLUTION) -> None:
        self.marks = marks
        self.bits = bits
        self.minimum = 2**64 - 1
        self.maximum = 0
        self.mark_numbers = {mark: number for number, mark in enumerate(marks)}
        self.on_mark = [0] * len(marks)
        self.buckets: dict[int, int] = {}

    def add(self, amount: int, times: int = 1) -> None:
        self.minimum = min(self.minimum, amount)
        self.maximum = max(self.maximum, amount)
        number = self.mark_numbers.get(amount)
        if number is not None:
            self.on_mark[number] += times
        bucket = bucket_of(amount, self.bits)
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

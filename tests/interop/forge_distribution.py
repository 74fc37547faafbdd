"""Histogram buckets, distributions and listed amounts of docs/determinism.md (section 8).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from typing import Optional

from forge_core import le, varint

RESOLUTION = 10  # section 8: B of `total` and `largest`
MOST_LISTED = 256  # section 8.1: the most distinct amounts that are listed


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


def numbered_bytes(items: dict[int, list[int]]) -> bytes:
    """Sections 8 and 8.1: the number of items, then for each, in the order of their numbers, its
    distance from the one before and its integers.
    """
    integers, previous = [len(items)], -1
    for number in sorted(items):
        integers += [number - 1 - previous, *items[number]]
        previous = number
    return b"".join(varint(integer) for integer in integers)


def counts_bytes(counts: dict[int, int]) -> bytes:
    """Sections 8 and 8.1: the bytes of buckets or of listed amounts with their iterations."""
    return numbered_bytes({number: [times] for number, times in counts.items()})


class Distribution:
    """Section 8: the aggregate of `total`, of `largest` or of a quantity. `lists` is whether it
    lists its amounts (section 8.1) as long as they are few.
    """

    def __init__(self, marks: list[int], bits: int = RESOLUTION, lists: bool = False) -> None:
        self.marks = marks
        self.bits = bits
        self.minimum = 2**64 - 1
        self.maximum = 0
        self.mark_numbers = {mark: number for number, mark in enumerate(marks)}
        self.on_mark = [0] * len(marks)
        self.buckets: dict[int, int] = {}
        # Amounts with their iterations; None if there are too many. Empty without iterations.
        self.listed: Optional[dict[int, int]] = {} if lists else None

    def add(self, amount: int, times: int = 1) -> None:
        self.minimum = min(self.minimum, amount)
        self.maximum = max(self.maximum, amount)
        number = self.mark_numbers.get(amount)
        if number is not None:
            self.on_mark[number] += times
        bucket = bucket_of(amount, self.bits)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.list_amounts({amount: times})

    def list_amounts(self, more: Optional[dict[int, int]]) -> None:
        """Section 8.1: adds the listed amounts of more iterations."""
        if self.listed is None or more is None:
            self.listed = None
            return
        for amount, times in more.items():
            self.listed[amount] = self.listed.get(amount, 0) + times
        if len(self.listed) > MOST_LISTED:
            self.listed = None

    def merge(self, other: Distribution) -> None:
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.on_mark = [a + b for a, b in zip(self.on_mark, other.on_mark)]
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.list_amounts(other.listed)

    def to_bytes(self) -> bytes:
        parts = [le(self.minimum, 8), le(self.maximum, 8)]
        parts += [varint(times) for times in self.on_mark]
        return b"".join(parts) + counts_bytes(self.buckets)

    def amounts_bytes(self) -> bytes:
        """Section 8.1: the bytes of the listed amounts."""
        return counts_bytes(self.listed or {})

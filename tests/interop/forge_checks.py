"""Checks of a run against its program (section 11.2 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any, Callable, Iterator, NamedTuple, Optional

from forge_distribution import bucket_low
from forge_execution import drawn_amount, limited_amount, paid_amount
from forge_moments import Moments
from forge_program import ANNUAL, CLAIMS, MAX, AmountTable, Component, Group, Program
from forge_shard import ShardResult
from forge_stats import f64, moments_of
from forge_tables import CountTable, QuantileTable, StepTable

W = 2**64
FEWEST = 10  # iterations expected on either side of a probability

Check = dict[str, Any]


def pairwise(values: list[int]) -> Iterator[tuple[int, int]]:
    return zip(values, values[1:])


def first(condition: Callable[[int], bool]) -> int:
    low, high = 0, W
    while low < high:
        middle = (low + high) // 2
        if condition(middle):
            high = middle
        else:
            low = middle + 1
    return low


# --- Cells
# --------------------------------------------------------------------------------------------------


def paid_by(together: list[Component], draw: int) -> int:
    """paid(d) of components drawn together."""
    return sum(paid_amount(component, drawn_amount(draw, component.amounts)) for component in together)


def draws_up_to(together: list[Component], x: int) -> int:
    return first(lambda draw: paid_by(together, draw) > x)


def table_cuts(table: AmountTable) -> Iterator[int]:
    if isinstance(table, StepTable):
        yield from table.thresholds
    elif isinstance(table, QuantileTable):
        edges = [*range(512), *(2**o + i * 2**(o - 8) for o in range(9, 63) for i in range(256)), 2**63]
        yield from edges
        yield from (W - edge for edge in edges)
    else:
        for low, high in pairwise([0, *table.thresholds, W]):
            yield from (low + (high - low) * i // 64 for i in range(1, 65))


def cuts(together: list[Component]) -> list[int]:
    found = {0, W}
    for component in together:
        found.update(table_cuts(component.amounts))
        found.add(draws_up_to([component], 0))
        if component.limit < MAX:
            found.add(first(lambda draw, c=component:
                            limited_amount(c, min(drawn_amount(draw, c.amounts), MAX)) == c.limit))
    return sorted(found)


Sums = tuple[int, ...]


def power_sums(values: Iterator[tuple[int, int]]) -> Sums:
    """A_1 to A_4 of pairs of weight and amount."""
    sums = [0, 0, 0, 0]
    for weight, amount in values:
        for k in range(4):
            weight *= amount
            sums[k] += weight
    return tuple(sums)


def cell_sums(together: list[Component]) -> Sums:
    return power_sums((end - start, paid_by(together, start + (end - start) // 2))
                      for start, end in pairwise(cuts(together)))


def count_weights(table: CountTable) -> list[int]:
    """w_c of the counts from `offset` on."""
    return [high - low for low, high in pairwise([0, *table.thresholds, W])]


# --- Central moments
# --------------------------------------------------------------------------------------------------


class Central(NamedTuple):
    mean: float
    c2: float
    c3: float
    c4: float


def central(sums: Sums, v: int) -> Central:
    a1, a2, a3, a4 = sums
    return Central(f64(a1) / f64(v), f64(v * a2 - a1**2) / f64(v**2),
                   f64(v**2 * a3 - 3 * v * a1 * a2 + 2 * a1**3) / f64(v**3),
                   f64(v**3 * a4 - 4 * v**2 * a1 * a3 + 6 * v * a1**2 * a2 - 3 * a1**4) / f64(v**4))


def added(a: Central, b: Central) -> Central:
    return Central(a.mean + b.mean, a.c2 + b.c2, a.c3 + b.c3, a.c4 + b.c4 + 6 * a.c2 * b.c2)


def compound(count: Central, each: Central) -> tuple[float, float, float]:
    """Mean, variance and fourth central moment of a group's gross amount."""
    big_m, big_2, big_3, big_4 = count
    m, c2, c3, c4 = each
    fourth = ((big_m * c4 + 3 * (big_2 + big_m * big_m - big_m) * (c2 * c2)) + 4 * m * c3 * big_2
              + 6 * (m * m) * c2 * (big_3 + big_m * big_2) + (m * m) * (m * m) * big_4)
    return big_m * m, big_m * c2 + big_2 * (m * m), fourth


# --- Groups
# --------------------------------------------------------------------------------------------------


class Law:
    """What the tables say about a group without indices."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.together: list[list[Component]] = []
        for component in group.components:
            if component.same_rank:
                self.together[-1].append(component)
            else:
                self.together.append([component])
        self.picks: Optional[list[int]] = None
        if group.kind == CLAIMS and len(group.components) > 1:
            weights = [0] * group.picks.offset + count_weights(group.picks)
            self.picks = weights + [0] * (len(group.components) - len(weights))

    def gross(self) -> tuple[float, float, float]:
        all_sums = [cell_sums(together) for together in self.together]
        if self.picks is None:
            each = central(all_sums[0], W)
            for sums in all_sums[1:]:
                each = added(each, central(sums, W))
        else:
            mixed = [sum(w * sums[k] for w, sums in zip(self.picks, all_sums)) for k in range(4)]
            each = central(tuple(mixed), W**2)
        if self.group.kind == ANNUAL:
            return each.mean, each.c2, each.c4
        return compound(central(count_sums(self.group.counts), W), each)

    def claim_up_to(self, x: int) -> float:
        parts = [f64(draws_up_to(together, x)) / f64(W) for together in self.together]
        if self.picks is None:
            return parts[0]
        total = 0.0
        for w, part in zip(self.picks, parts):
            total += f64(w) / f64(W) * part
        return total

    def up_to(self, x: int) -> Optional[float]:
        """P(amount ≤ x) of an occurrence, if it is known."""
        if self.group.kind == CLAIMS:
            return self.claim_up_to(x)
        return f64(draws_up_to(self.together[0], x)) / f64(W) if len(self.together) == 1 else None

    def zero(self) -> float:
        if self.group.kind == CLAIMS:
            return self.all(self.claim_up_to(0))
        q = prod((f64(draws_up_to(together, 0)) / f64(W) for together in self.together), start=1.0)
        return q if self.group.kind == ANNUAL else self.all(q)

    def all(self, q: float) -> float:
        """The probability that all occurrences of a year have a property."""
        power, total = 1.0, 0.0
        for _ in range(self.group.counts.offset):
            power *= q
        for weight in count_weights(self.group.counts):
            total += f64(weight) / f64(W) * power
            power *= q
        return total


def count_sums(table: CountTable) -> Sums:
    return power_sums((weight, table.offset + k) for k, weight in enumerate(count_weights(table)))


def law_of(group: Group) -> Optional[Law]:
    return None if any(component.index is not None for component in group.components) else Law(group)


# --- Checks
# --------------------------------------------------------------------------------------------------


def unknown(expected: Optional[float], found: Optional[float], reason: str) -> Check:
    return {"expected": expected, "found": found, "z": None, "unknown": reason}


def check(expected: float, found: Optional[float], v: float, n: float) -> Check:
    if found is None:
        return unknown(expected, found, "single_year")
    if not v > 0:
        return unknown(expected, found, "constant")
    return {"expected": expected, "found": found, "z": (found - expected) / sqrt(v / n), "unknown": None}


def probability_check(p: float, found: float, n: float) -> Check:
    if any(side > 0 and n * side < FEWEST for side in (p, 1 - p)):
        return unknown(p, found, "few_years")
    return check(p, found, p * (1 - p), n)


def gross_checks(law: Optional[Law], found: tuple[float, Optional[float]], u: float, n: float,
                 has: Callable[[int], bool]) -> dict[str, Check]:
    mean, variance = found
    mean, variance = mean / u, None if variance is None else variance / u / u
    if law is None:
        return {"mean": unknown(None, mean, "index"), "variance": unknown(None, variance, "index")}
    expected, square, fourth = law.gross()
    expected, square, fourth = expected / u, square / u / u, fourth / u / u / u / u
    rows = {"mean": (1, expected, mean, square), "variance": (2, square, variance, fourth - square * square)}
    return {name: check(value, seen, v, n) if has(2 * order)
            else unknown(value if has(order) else None, seen, "moment")
            for name, (order, value, seen, v) in rows.items()}


def count_checks(group: Group, found: tuple[float, Optional[float]], n: float) -> Optional[dict[str, Check]]:
    if group.kind == ANNUAL:
        return None
    count = central(count_sums(group.counts), W)
    return {"mean": check(count.mean, found[0], count.c2, n),
            "variance": check(count.c2, found[1], count.c4 - count.c2 * count.c2, n)}


def largest_check(program: Program, laws: list[Optional[Law]], result: ShardResult, period: int) -> dict[str, Any]:
    n = result.iterations
    rank, up_to, bucket = -(-n * (period - 1) // period), 0, 0
    for bucket in sorted(result.largest.buckets):
        up_to += result.largest.buckets[bucket]
        if up_to >= rank:
            break
    x = bucket_low(bucket + 1) - 1
    found = f64(n - up_to) / f64(n)
    groups: list[Optional[float]] = []
    reason, product = None, 1.0
    for group, law in zip(program.groups, laws):
        if group.kind == ANNUAL:
            groups.append(None)
            continue
        each = None if law is None else law.up_to(x)
        if each is None:
            reason = reason or ("index" if law is None else "strikes")
            groups.append(None)
        else:
            under = law.all(each)
            product *= under
            groups.append(1 - under)
    return {"return_period": period, "amount": f64(x) / f64(program.units), "groups": groups,
            "probability": unknown(None, found, reason) if reason
            else probability_check(1 - product, found, f64(n))}


def checks_of(args: dict[str, Any], program: Program, result: ShardResult, moments: Moments,
              periods: list[int]) -> dict[str, Any]:
    """Section 11.2: `checks`."""
    n, u = f64(result.iterations), f64(program.units)
    laws = [law_of(group) for group in program.groups]
    groups = []
    for number, (group, law) in enumerate(zip(program.groups, laws)):
        counts, squares, without, gross, gross_squares = result.details.groups[number].sums
        of_counts = moments_of(result.iterations, counts, squares)
        of_gross = moments_of(result.iterations, gross, gross_squares)
        found = f64(without) / n
        groups.append({
            "name": args["groups"][number]["name"],
            "count": count_checks(group, (of_counts.mean, of_counts.variance), n),
            "gross": gross_checks(law, (of_gross.mean, of_gross.variance), u, n,
                                  lambda order, at=number: moments.group_has(at, order)),
            "zero_probability": unknown(None, found, "index") if law is None
            else probability_check(law.zero(), found, n),
        })
    return {"groups": groups, "largest_occurrence": [largest_check(program, laws, result, period)
                                                     for period in periods]}

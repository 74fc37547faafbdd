"""Checks of a run against figures of its program (section 11.2 of docs/determinism.md).

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from itertools import accumulate, takewhile
from math import sqrt
from typing import Any, Callable, Iterator, NamedTuple, Optional

from forge_distribution import Distribution, bucket_low
from forge_execution import limited_loss, share_of
from forge_moments import Moments
from forge_program import ANNUAL, CLAIMS, MAX, Component, Group, Program
from forge_shard import ShardResult
from forge_stats import f64, moments_of
from forge_tables import CountTable, LinearTable, QuantileTable

W = 2**64
FEW = 10  # expected years below which a probability is not compared
LINEAR_CUTS = 64  # cells of a piece of a linear table

Check = dict[str, Any]
Sums = tuple[int, int, int, int]  # A_1 … A_4

# --- Cells


def paid(components: list[Component], draw: int) -> int:
    """What components drawn together pay for a draw."""
    return sum(share_of(limited_loss(component, draw, []), component.share)
               for component in components)


def first(condition: Callable[[int], bool]) -> int:
    """The result of the bisection: the first draw with a condition that holds from it on. What a line
    of events pays does not ascend: the result is then a cut that changes no sum.
    """
    low, high = 0, W
    while low < high:
        middle = (low + high) // 2
        if condition(middle):
            high = middle
        else:
            low = middle + 1
    return low


def draws_up_to(components: list[Component], amount: int) -> float:
    """f64(first(paid > amount)) ÷ W."""
    return f64(first(lambda draw: paid(components, draw) > amount)) / W


def drawn_together(group: Group) -> list[list[Component]]:
    """The components of a group by the draw that they have in common."""
    together: list[list[Component]] = []
    for component in group.components:
        if component.same_rank:
            together[-1].append(component)
        else:
            together.append([component])
    return together


def quantile_cuts() -> Iterator[int]:
    """The cuts of a quantile table."""
    distances = [*range(512), 2**63]
    distances += [2**o + i * 2**(o - 8) for o in range(9, 63) for i in range(256)]
    for distance in distances:
        yield distance
        yield W - distance


def linear_cuts(table: LinearTable) -> Iterator[int]:
    """The cuts of a linear table."""
    ends = [0, *table.thresholds, W]
    for start, end in zip(ends, ends[1:]):
        for i in range(1, LINEAR_CUTS + 1):
            yield start + (end - start) * i // LINEAR_CUTS


def cuts_of(component: Component) -> set[int]:
    """The cuts due to one component."""
    cuts = {0, W, first(lambda draw: paid([component], draw) > 0)}
    if component.limit < MAX:
        cuts.add(first(lambda draw: limited_loss(component, draw, []) == component.limit))
    table = component.amounts
    if isinstance(table, QuantileTable):
        return cuts | set(quantile_cuts())
    return cuts | set(linear_cuts(table) if isinstance(table, LinearTable) else table.thresholds)


def power_sums(weighted: list[tuple[int, int]]) -> Sums:
    """A_1 … A_4 of pairs of a weight and an amount."""
    a = [0] * 4
    for weight, amount in weighted:
        for k in range(4):
            weight *= amount
            a[k] += weight
    return tuple(a)


def cell_sums(components: list[Component]) -> Sums:
    """A_1 … A_4 of the cells of components drawn together."""
    cuts = sorted(set().union(*[cuts_of(component) for component in components]))
    return power_sums([(e - s, paid(components, s + (e - s) // 2)) for s, e in zip(cuts, cuts[1:])])


def count_weights(table: CountTable) -> list[tuple[int, int]]:
    """Pairs of w_c and c, over the counts c of a count table, ascending."""
    ends = [0, *table.thresholds, W]
    return [(end - start, table.offset + k) for k, (start, end) in enumerate(zip(ends, ends[1:]))]


# --- Central moments


class Central(NamedTuple):
    """The mean and the central moments of orders 2 to 4."""

    mean: float
    c2: float
    c3: float
    c4: float


def central(a: Sums, v: int) -> Central:
    """The central moments of sums whose weights add up to v."""
    a1, a2, a3, a4 = a
    return Central(
        f64(a1) / f64(v), f64(v * a2 - a1**2) / f64(v**2),
        f64(v**2 * a3 - 3 * v * a1 * a2 + 2 * a1**3) / f64(v**3),
        f64(v**3 * a4 - 4 * v**2 * a1 * a3 + 6 * v * a1**2 * a2 - 3 * a1**4) / f64(v**4))


def added(x: Central, y: Central) -> Central:
    """The moments of the sum of two independent amounts."""
    return Central(x.mean + y.mean, x.c2 + y.c2, x.c3 + y.c3, x.c4 + y.c4 + (6 * x.c2) * y.c2)


def occurrence_moments(group: Group) -> Central:
    """The moments of an occurrence, or of the gross amount of an annual group."""
    together = drawn_together(group)
    sums = [cell_sums(components) for components in together]
    if group.picks is not None:
        weighted = [(weight, sums[picked]) for weight, picked in count_weights(group.picks)]
        a = tuple(sum(weight * of_component[k] for weight, of_component in weighted)
                  for k in range(4))
        return central(a, W * W)
    total = central(sums[0], W)
    for more in sums[1:]:
        total = added(total, central(more, W))
    return total


class Gross(NamedTuple):
    """The mean, the variance and the fourth central moment of a group's gross amount."""

    mean: float
    variance: float
    fourth: float


def gross_moments(group: Group, counts: Central) -> Gross:
    """The moments of a group's gross amount."""
    m, c2, c3, c4 = occurrence_moments(group)
    if group.kind == ANNUAL:
        return Gross(m, c2, c4)
    M, C2, C3, C4 = counts
    fourth = ((M * c4 + (3 * ((C2 + M * M) - M)) * (c2 * c2)) + (((4 * m) * c3) * C2)
              + (((6 * (m * m)) * c2) * (C3 + M * C2)) + ((m * m) * (m * m)) * C4)
    return Gross(M * m, M * c2 + C2 * (m * m), fourth)


# --- Probabilities


def has_index(group: Group) -> bool:
    return any(component.index is not None for component in group.components)


def claim_probability(group: Group, amount: int) -> float:
    """P(an occurrence of claims is at most an amount)."""
    if group.picks is None:
        return draws_up_to(group.components, amount)
    q = 0.0
    for weight, picked in count_weights(group.picks):
        q += f64(weight) / W * draws_up_to([group.components[picked]], amount)
    return q


def all_occurrences(table: CountTable, q: float) -> float:
    """The probability that all occurrences of a year have a property of probability q."""
    probability, power = 0.0, 1.0
    for _ in range(table.offset):
        power *= q
    for weight, _ in count_weights(table):
        probability += f64(weight) / W * power
        power *= q
    return min(1.0, probability)


def no_loss_probability(group: Group) -> float:
    """The probability of a year in which a group has no loss."""
    if group.kind == CLAIMS:
        return all_occurrences(group.counts, claim_probability(group, 0))
    q = 1.0
    for components in drawn_together(group):
        q *= draws_up_to(components, 0)
    return q if group.kind == ANNUAL else all_occurrences(group.counts, q)


def unknown_largest(group: Group) -> Optional[str]:
    """Why the law of a group's largest occurrence is not known."""
    if group.kind == ANNUAL:
        return None
    if has_index(group):
        return "index"
    is_together = group.kind == CLAIMS or len(drawn_together(group)) == 1
    return None if is_together else "strikes"


def largest_up_to(group: Group, amount: int) -> float:
    """G of a group that is not annual."""
    q = (claim_probability(group, amount) if group.kind == CLAIMS
         else draws_up_to(group.components, amount))
    return all_occurrences(group.counts, q)


# --- Checks


def check_without_z(expected: Optional[float], found: Optional[float], reason: str) -> Check:
    """A check without a z-score."""
    return {"expected": expected, "found": found, "z": None, "no_z_reason": reason}


def check(expected: float, found: Optional[float], v: float, n: int) -> Check:
    """A check of a figure whose variance in a single year is v."""
    if found is None:
        return check_without_z(expected, None, "single_year")
    if not v > 0:
        return check_without_z(expected, found, "constant")
    z = (found - expected) / sqrt(v / f64(n))
    return {"expected": expected, "found": found, "z": z, "no_z_reason": None}


def probability_check(p: float, found: float, n: int) -> Check:
    """A check of a frequency against its probability."""
    if any(part > 0 and f64(n) * part < FEW for part in (p, 1 - p)):
        return check_without_z(p, found, "few_years")
    return check(p, found, p * (1 - p), n)


def spread(fourth: float, square: float) -> float:
    """The variance of a squared deviation; 0 where rounding may have left all of it."""
    difference = fourth - square * square
    return difference if difference > fourth * 1e-9 else 0.0


def moment_check(expected: float, found: Optional[float], v: float, n: int, order: int,
                 highest: int) -> Check:
    """A check of a mean (order 1) or of a variance (order 2) with the moments up to `highest`."""
    if highest < 2 * order:
        return check_without_z(expected if highest >= order else None, found, "moment")
    return check(expected, found, v, n)


class Checks:
    """Section 11.2: the checks of a run."""

    def __init__(self, args: dict[str, Any], program: Program, result: ShardResult,
                 moments: Moments, periods: list[int], largest: list[Distribution]) -> None:
        self.names = [group["name"] for group in args["groups"]]
        self.program = program
        self.u = f64(program.units)
        self.result = result
        self.n = result.iterations
        self.moments = moments
        self.periods = periods
        self.largest = largest  # of (0, L, A), then of (0, L, {g}) for each group

    def checks(self) -> dict[str, Any]:
        return {"groups": [self.group(number) for number in range(len(self.program.groups))],
                "largest_occurrence": [self.largest_at(period) for period in self.periods]}

    def group(self, number: int) -> dict[str, Any]:
        """The checks of a group."""
        group = self.program.groups[number]
        count, count_squares, without_loss, gross, gross_squares = (
            self.result.details.groups[number].sums)
        counts = central(power_sums(count_weights(group.counts)), W)
        of_counts = moments_of(self.n, count, count_squares)
        frequency = f64(without_loss) / f64(self.n)
        return {
            "name": self.names[number],
            "count": None if group.kind == ANNUAL else {
                "mean": check(counts.mean, of_counts.mean, counts.c2, self.n),
                "variance": check(counts.c2, of_counts.variance,
                                  spread(counts.c4, counts.c2), self.n)},
            "gross": self.gross(number, counts, gross, gross_squares),
            "zero_probability": check_without_z(None, frequency, "index") if has_index(group)
            else probability_check(no_loss_probability(group), frequency, self.n),
        }

    def gross(self, number: int, counts: Central, total: int, squares: int) -> dict[str, Check]:
        """The checks of a group's gross amount."""
        group, u, n = self.program.groups[number], self.u, self.n
        found = moments_of(n, total, squares)
        mean = found.mean / u
        variance = None if found.variance is None else found.variance / u / u
        if has_index(group):
            return {"mean": check_without_z(None, mean, "index"),
                    "variance": check_without_z(None, variance, "index")}
        expected = gross_moments(group, counts)
        q = expected.variance / u / u
        highest = self.moments.of_group(number)
        return {"mean": moment_check(expected.mean / u, mean, q, n, 1, highest),
                "variance": moment_check(q, variance, spread(expected.fourth / u / u / u / u, q), n, 2,
                                         highest)}

    def largest_at(self, period: int) -> dict[str, Any]:
        """The checks of the largest occurrence at a return period."""
        groups = [(number, group) for number, group in enumerate(self.program.groups) if group.kind != ANNUAL]
        alone: list[Any] = [None] * len(self.program.groups)
        for number, group in groups:
            alone[number] = {"name": self.names[number],
                             **self.exceeding(self.largest[number + 1], period, [group])}
        return {"return_period": period,
                **self.exceeding(self.largest[0], period, [group for _, group in groups]), "groups": alone}

    def exceeding(self, distribution: Distribution, period: int, groups: list[Group]) -> dict[str, Any]:
        """`amount` and `probability` of the largest occurrence of groups, which has a distribution."""
        x, later = bucket_at(distribution, -(-self.n * (period - 1) // period))
        found = f64(later) / f64(self.n)
        reasons = [reason for reason in map(unknown_largest, groups) if reason]
        if reasons:
            return {"amount": f64(x) / self.u, "probability": check_without_z(None, found, reasons[0])}
        product = 1.0
        for group in groups:
            product *= largest_up_to(group, x)
        return {"amount": f64(x) / self.u, "probability": probability_check(1 - product, found, self.n)}


def bucket_at(distribution: Distribution, rank: int) -> tuple[int, int]:
    """The largest amount of the bucket that holds a rank, and the iterations in later buckets."""
    buckets = sorted(distribution.buckets)
    ends = list(accumulate(distribution.buckets[bucket] for bucket in buckets))
    place = len(list(takewhile(lambda end: end < rank, ends)))
    return bucket_low(buckets[place] + 1, distribution.bits) - 1, ends[-1] - ends[place]


def checks_of(args: dict[str, Any], program: Program, result: ShardResult, moments: Moments,
              periods: list[int], largest: list[Distribution]) -> dict[str, Any]:
    """Section 11.2: `checks`; `periods` are the return periods, ascending; `largest` as in Checks."""
    return Checks(args, program, result, moments, periods, largest).checks()

"""Execution of docs/determinism.md (section 7): one iteration of a program.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Iterator

from forge_core import SpecError
from forge_program import (ANNUAL, CLAIMS, MAX, MILLION, AggregateXl, AmountTable, Component, Layer,
                           OccurrenceXl, Program, QuotaShare, Treaty)
from forge_tables import CountTable, Entry, LinearTable, QuantileTable

M31 = 2**31 - 1
SUM_LIMIT = 2**62  # section 7.3: sums of amounts within a year stop here


# --- Section 7.1: amounts
# --------------------------------------------------------------------------------------------------


def amount_of(draw: int, table: list[Entry], bits: int) -> int:
    """Section 7.1: the amount of a draw in a quantile table."""
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
        raise SpecError("section 7.1: an intermediate value does not fit")
    return max(0, left * 2**31 + y * bent) >> shift


def amount_between(draw: int, table: LinearTable) -> int:
    """Section 5.5: the amount of a draw in a linear table."""
    piece = bisect_right(table.thresholds, draw)
    low = table.thresholds[piece - 1] if piece > 0 else 0
    high = table.thresholds[piece] if piece < len(table.thresholds) else 2**64
    width = high - low
    rise = table.amounts[piece + 1] - table.amounts[piece]
    return table.amounts[piece] + (rise * (2 * (draw - low) + 1) + width) // (2 * width)


def drawn_amount(draw: int, table: AmountTable) -> int:
    """Sections 5.3, 5.5 and 7.1: the amount of a draw in a table of any kind."""
    if isinstance(table, QuantileTable):
        return amount_of(draw, table.entries, table.bits)
    if isinstance(table, LinearTable):
        return amount_between(draw, table)
    return table.amounts[bisect_right(table.thresholds, draw)]


def count_of(draw: int, table: CountTable) -> int:
    """Section 5.1: the count of a draw."""
    return table.offset + bisect_right(table.thresholds, draw)


def share_of(amount: int, millionths: int) -> int:
    """Section 7.1: share(x)."""
    return (amount * millionths + MILLION // 2) // MILLION


def layer_part(amount: int, layer: Layer) -> int:
    """Section 7.3: the part of an amount within a layer."""
    return min(max(amount - layer.attachment, 0), layer.limit)


def limited_loss(component: Component, draw: int, factors: list[int]) -> int:
    """Section 7.1: `limited` of a draw."""
    loss = min(drawn_amount(draw, component.amounts), MAX)
    if component.index is not None:
        loss = min(loss * factors[component.index] >> 24, MAX)
    return limited_amount(component, loss)


def paid_amount(component: Component, amount: int) -> int:
    """Section 7.1: `paid` for an amount, without an index."""
    return share_of(limited_amount(component, min(amount, MAX)), component.share)


def limited_amount(component: Component, loss: int) -> int:
    """Section 7.1: `limited` of a loss."""
    if component.franchise:
        above = loss if loss >= component.deductible else 0
    else:
        above = max(loss - component.deductible, 0)
    return min(above, component.limit)


# --- Section 7.2: order
# --------------------------------------------------------------------------------------------------


def groups_covered(program: Program, treaty: Treaty) -> int:
    """Section 7.2: how many groups a treaty covers."""
    return sum(1 for number, group in enumerate(program.groups)
               if group.kind != ANNUAL and treaty.groups >> number & 1
               and any(treaty.lines >> component.line & 1 for component in group.components))


def is_order_random(program: Program) -> bool:
    """Section 7.2: whether occurrences have order draws."""
    return any(isinstance(treaty.terms, OccurrenceXl) and treaty.terms.annual != Layer()
               and groups_covered(program, treaty) > 1 for treaty in program.treaties)


def group_at(place: int, left: list[int]) -> int:
    """Section 7.2: the group of a place among the occurrences left, counted group by group."""
    for group, count in enumerate(left):
        if place < count:
            return group
        place -= count
    raise SpecError("section 7.2: a place beyond the occurrences left")


def occurrences(counts: list[int], random: bool, draws: Iterator[int]) -> Iterator[int]:
    """Section 7.2: the group of one occurrence after another."""
    left = list(counts)
    while sum(left) > 0:
        place = 0
        if random and sum(count > 0 for count in left) > 1:
            place = next(draws) * sum(left) >> 64
        group = group_at(place, left)
        left[group] -= 1
        yield group


# --- Section 7.3: treaties
# --------------------------------------------------------------------------------------------------


def members(mask: int, count: int) -> list[int]:
    """The numbers in a set of bits."""
    return [i for i in range(count) if mask >> i & 1]


def added(amount: int, more: int) -> int:
    """Section 7.3: a sum of amounts within a year."""
    return min(amount + more, SUM_LIMIT)


def take(payment: int, amounts: list[int], lines: list[int]) -> list[int]:
    """Section 7.3: takes a payment from the amounts of lines; returns what each of `lines` loses."""
    available = sum(amounts[line] for line in lines)
    payment = min(payment, available)
    taken, so_far = [], 0
    for line in lines:
        before = payment * so_far // available if available else 0
        so_far += amounts[line]
        taken.append((payment * so_far // available if available else 0) - before)
    for line, part in zip(lines, taken):
        amounts[line] -= part
    return taken


class TreatyYear:
    """Sections 7.3 and 8.1: a treaty's part in an iteration."""

    def __init__(self, treaty: Treaty, lines: int) -> None:
        self.treaty = treaty
        self.lines = members(treaty.lines, lines)
        self.ceded = 0
        self.recovered = 0  # R of an occurrence XL
        self.layer_hits = 0  # occurrences with r > 0
        self.layer_losses = 0  # occurrences with r = limit
        self.aggregate_part = 0  # an aggregate XL's part of x within its layer

    def covers(self, group: int) -> bool:
        return bool(self.treaty.groups >> group & 1)

    def payment(self, seen: list[int], annual: bool) -> int:
        """Section 7.3: the payment for an occurrence or an annual group."""
        terms = self.treaty.terms
        x = sum(seen[line] for line in self.lines)
        if isinstance(terms, QuotaShare):
            if annual and terms.event_limit < MAX:
                return 0
            return min(share_of(x, terms.cession), terms.event_limit)
        if isinstance(terms, OccurrenceXl) and not annual:
            return self.occurrence_payment(terms, share_of(x, terms.cession))
        return 0

    def occurrence_payment(self, terms: OccurrenceXl, subject: int) -> int:
        """Section 7.3: the payment of an occurrence XL."""
        part = layer_part(subject, terms.layer)
        self.layer_hits += part > 0
        self.layer_losses += part == terms.layer.limit
        before = self.annual_part()
        self.recovered = added(self.recovered, part)
        return share_of(self.annual_part(), terms.placed) - share_of(before, terms.placed)

    def take_back(self, cut: int) -> None:
        """Section 7.3: what was cut of a payment does not count as paid."""
        terms = self.treaty.terms
        if cut and isinstance(terms, OccurrenceXl):
            paid = share_of(self.annual_part(), terms.placed) - cut
            self.recovered = (terms.annual.attachment
                              + (2 * paid * MILLION + terms.placed) // (2 * terms.placed))

    def annual_part(self) -> int:
        """Section 7.3: A(R)."""
        return layer_part(self.recovered, self.treaty.terms.annual)

    def aggregate_payment(self, terms: AggregateXl, year: list[int]) -> int:
        """Section 7.3: the payment of an aggregate XL from the year's amounts before its step."""
        x = 0
        for line in self.lines:
            x = added(x, year[line])
        self.aggregate_part = layer_part(x, terms.layer)
        return share_of(self.aggregate_part, terms.placed)

    def is_used_up(self) -> bool:
        """Section 8.1: whether the year's limit is used up."""
        terms = self.treaty.terms
        if isinstance(terms, OccurrenceXl):
            return self.annual_part() == terms.annual.limit
        return isinstance(terms, AggregateXl) and self.aggregate_part == terms.layer.limit

    def reinstated(self) -> list[int]:
        """Section 8.1: r_k of each reinstatement."""
        terms = self.treaty.terms
        if not isinstance(terms, OccurrenceXl):
            return []
        most = terms.layer.limit
        return [layer_part(self.annual_part(), Layer(most, k * most)) for k in range(len(terms.prices))]

    def premium(self) -> int:
        """Section 8.1: the reinstatement premium p."""
        parts = self.reinstated()
        if not parts:
            return 0
        terms = self.treaty.terms
        paid = sum(price * part for price, part in zip(terms.prices, parts))
        unit = terms.layer.limit * MILLION
        return share_of(min((2 * terms.premium * paid + unit) // (2 * unit), MAX), terms.placed)


# --- Section 7.4: the iteration
# --------------------------------------------------------------------------------------------------


class Iteration:
    """Sections 4 and 7: executes one iteration from its draws."""

    def __init__(self, program: Program, draws: Iterator[int]) -> None:
        self.program = program
        self.draws = draws
        components = program.components()
        self.drawn = [0] * len(components)
        self.at_limit = [0] * len(components)
        self.group_gross = [0] * len(program.groups)
        self.treaties = [TreatyYear(treaty, program.lines) for treaty in program.treaties]
        self.steps = program.steps()
        # The year's amounts for each line: before all steps, then after each step.
        self.years = [[0] * program.lines for _ in range(len(self.steps) + 1)]
        self.largest_occurrence = 0
        # Of each occurrence its group, and its lines' amounts before all steps and after each.
        self.occurrences: list[tuple[int, list[list[int]]]] = []
        self.counts = [0 if group.kind == ANNUAL else count_of(next(draws), group.counts)
                       for group in program.groups]
        self.factors = [drawn_amount(next(draws), index) for index in program.indices]
        self.execute()

    def execute(self) -> None:
        """Sections 7.2 and 7.3."""
        for number, group in enumerate(self.program.groups):
            if group.kind == ANNUAL:
                self.pass_treaties(number, self.losses(number))
        for number in occurrences(self.counts, is_order_random(self.program), self.draws):
            amounts = self.losses(number)
            self.largest_occurrence = max(self.largest_occurrence, sum(amounts))
            self.pass_treaties(number, amounts)
        self.settle_aggregates()

    def losses(self, number: int) -> list[int]:
        """Sections 4 and 7.1: gross amounts of an occurrence or an annual group, for each line."""
        group = self.program.groups[number]
        struck = list(range(len(group.components)))
        if group.kind == CLAIMS and len(struck) > 1:
            struck = [count_of(next(self.draws), group.picks)]
        first = sum(len(earlier.components) for earlier in self.program.groups[:number])
        amounts, draw = [0] * self.program.lines, None
        for position in struck:
            component = group.components[position]
            if draw is None or not component.same_rank:
                draw = next(self.draws)
            limited = limited_loss(component, draw, self.factors)
            self.drawn[first + position] += 1
            self.at_limit[first + position] += limited == component.limit
            amounts[component.line] += share_of(limited, component.share)
        self.group_gross[number] = added(self.group_gross[number], sum(amounts))
        return amounts

    def add_to_year(self, position: int, amounts: list[int]) -> None:
        self.years[position] = [added(a, b) for a, b in zip(self.years[position], amounts)]

    def pass_treaties(self, number: int, amounts: list[int]) -> None:
        """Section 7.3: the steps that an occurrence or an annual group passes through."""
        annual = self.program.groups[number].kind == ANNUAL
        self.add_to_year(0, amounts)
        left = [list(amounts)]
        for position, step in enumerate(self.steps):
            seen = list(amounts)
            for year in self.treaties:
                if year.treaty.step == step and year.covers(number):
                    payment = year.payment(seen, annual)
                    taken = take(payment, amounts, year.lines)
                    year.ceded = added(year.ceded, sum(taken))
                    year.take_back(payment - sum(taken))
            self.add_to_year(position + 1, amounts)
            left.append(list(amounts))
        if not annual:
            self.occurrences.append((number, left))

    def settle_aggregates(self) -> None:
        """Section 7.3: the payments of aggregate XL treaties after the last occurrence."""
        for position, step in enumerate(self.steps):
            for year in self.treaties:
                if year.treaty.step == step and isinstance(year.treaty.terms, AggregateXl):
                    self.settle_aggregate(year, position)

    def settle_aggregate(self, year: TreatyYear, position: int) -> None:
        payment = year.aggregate_payment(year.treaty.terms, self.years[position])
        taken = take(payment, self.years[position + 1], year.lines)
        year.ceded = added(year.ceded, sum(taken))
        for later in self.years[position + 2:]:
            for line, part in zip(year.lines, taken):
                later[line] -= part
                if later[line] < 0:
                    raise SpecError("section 7.3: an aggregate XL takes more than a later step has left")

    def total(self) -> int:
        """Section 7.4."""
        return min(self.program.base + sum(self.years[-1]), MAX, self.program.cap)

    def largest(self) -> int:
        """Section 7.4."""
        return min(self.largest_occurrence, MAX, self.program.cap)

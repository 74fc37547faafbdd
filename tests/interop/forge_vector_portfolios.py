"""The contents of portfolios.json: programs made by hand, and the first iterations of a leaf.

Part of the independent second implementation written from docs/determinism.md alone; see
forge_reader.py for its purpose and usage. The quantile tables have few segments, so that the
programs stay short.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from typing import Any, NamedTuple

import forge_core as core
import forge_execution as execution
import forge_shard as shard
from forge_program import (ALL_GROUPS, ANNUAL, CLAIMS, MAX, STRIKES, AggregateXl, Component, Group, Layer, OccurrenceXl,
                           Program, QuotaShare, Treaty)
from forge_tables import (CountTable, LinearTable, LogNormal, Normal, QuantileTable, StepTable, bernoulli_table,
                          constant_table, discrete_table, linear_table, poisson_table, quantile_table)

TRACED = 3  # iterations whose amounts are listed one by one
# Iterations of leaf 0 of `some_hundred_amounts` that have 256 distinct totals, before one with a
# new total; and those of leaf 1 that have 256 together with the first 200 of leaf 0.
N_256, M_256 = 360, 165


class Case(NamedTuple):
    """A program of portfolios.json and how many iterations of leaf 0 are executed. The root seed is
    that of `seed`, or of `name`.
    """

    name: str
    about: str
    iterations: int
    program: Program
    seed: str = ""

    def root(self) -> bytes:
        return core.sha256(b"forge/v1/root/explicit\x00" + (self.seed or self.name).encode())


class Merge(NamedTuple):
    """Results of several leaves of a program, and how many iterations of each are executed."""

    name: str
    portfolio: str
    parts: list[tuple[int, int]]


# --- Tables
# --------------------------------------------------------------------------------------------------


def quantiles(law: LogNormal | Normal, bits: int) -> QuantileTable:
    return QuantileTable(bits, quantile_table(law, 100, bits))


def steps(*rows: tuple[int, int]) -> StepTable:
    """Section 5.3: a step table of (amount, weight)."""
    total = sum(weight for _, weight in rows)
    thresholds, below = [], 0
    for _, weight in rows[:-1]:
        below += weight
        thresholds.append((below << 64) // total)
    return StepTable(thresholds, [amount for amount, _ in rows])


def constant(amount: int) -> StepTable:
    return StepTable([], [amount])


def line(*knots: tuple[float, int]) -> LinearTable:
    """Section 5.5: a linear table of (probability, amount)."""
    return linear_table([amount for _, amount in knots], [probability for probability, _ in knots])


def picks(*weights: int) -> CountTable:
    """Section 5.4: the pick table of weights."""
    return discrete_table([Fraction(weight, sum(weights)) for weight in weights])


NEVER = poisson_table(0.0)
NOT_COUNTED = constant_table(0)  # section 6: the count table of an annual group
FIRE = quantiles(LogNormal(4.0, 1.0), 1)
STORM = quantiles(LogNormal(5.0, 1.5), 1)
HAIL = quantiles(LogNormal(4.5, 1.2), 2)
DELAY = quantiles(Normal(100.0, 80.0), 3)
INFLATION = QuantileTable(1, quantile_table(Normal(1.05, 0.05), 2**24, 1))
# Long step tables, much shorter than quantile tables.
WIND = steps(*((700 + 23 * 2**i // 3, 40 - i) for i in range(16)))
WATER = steps(*((11 * i * i * i, 25 - i) for i in range(24)))
DICE = steps((0, 1), (1_000, 2), (5_000, 3), (20_000, 2), (100_000, 1))


# Linear tables: with level pieces, and with pieces that no draw lies in.
LEVEL = line((0, 500), (0.25, 500), (0.5, 3_001), (0.75, 3_001), (1, 40_000))
NARROW = line((0, 10), (1e-30, 20), (2e-30, 900), (0.6, 7_000), (0.9999999999999999, 60_000), (1, MAX))
# The most amounts that are atoms, 0 and repeated ones among them, and one amount more.
SIXTEEN = steps(*[(0, 1)] * 4, *[(1_000, 1)] * 5, *((2_000 * i, 1) for i in range(1, 8)))
SEVENTEEN = steps(*[(0, 1)] * 4, *[(1_100, 1)] * 6, *((2_100 * i, 1) for i in range(1, 8)))


# --- Programs
# --------------------------------------------------------------------------------------------------


def claims_with_picks() -> Program:
    components = [
        Component("fire", FIRE, 0, deductible=2_000, limit=20_000, share=800_000),
        Component("theft", DICE, 1, deductible=5_000, franchise=True),
        Component("fee", constant(1_234), 1, share=333_333),
        Component("delay", DELAY, 0),
    ]
    return Program(100, 250, 60_000, 2, [Group(CLAIMS, poisson_table(2.5), components, picks(5, 3, 2, 1))])


def first_pick_impossible() -> Program:
    components = [Component("none", WATER), Component("all", DICE, 1), Component("none again", constant(7))]
    group = Group(CLAIMS, constant_table(2), components, picks(0, 1, 0))
    return Program(100, 0, MAX, 2, [group, Group(CLAIMS, NEVER, [Component("never", WATER)])], details=True)


def strikes_of_the_same_rank() -> Program:
    components = [
        Component("building", HAIL, 0, limit=200_000),
        Component("content", WATER, 1, same_rank=True, deductible=1_000),
        Component("interruption", DICE, 2, index=1),
        Component("debris", constant(3_000), 0, index=0, same_rank=True),
    ]
    groups = [Group(STRIKES, poisson_table(0.8), components),
              Group(CLAIMS, bernoulli_table(0.3), [Component("single", WIND, 2, index=0, limit=50_000)])]
    return Program(100, 0, MAX, 3, groups, [INFLATION, steps((2**23, 1), (2**24, 4), (3 * 2**24, 1))], details=True,
                   allocation=True)


def annual_groups() -> Program:
    groups = [
        Group(CLAIMS, poisson_table(1.5), [Component("claims", WATER, 0)]),
        Group(ANNUAL, NOT_COUNTED, [Component("attrition", WIND, 0, deductible=10_000),
                                    Component("cost", WATER, 1, same_rank=True)]),
        Group(ANNUAL, NOT_COUNTED, [Component("cost", DICE, 1, index=0)]),
    ]
    treaties = [
        Treaty(1, 0b11, ALL_GROUPS, QuotaShare(250_000)),
        Treaty(1, 0b01, 0b011, QuotaShare(100_000, 1_500)),
        Treaty(2, 0b11, ALL_GROUPS, OccurrenceXl(Layer(10_000, 3_000))),
        Treaty(3, 0b10, ALL_GROUPS, AggregateXl(Layer(30_000, 4_000), 900_000)),
    ]
    return Program(100, 0, MAX, 2, groups, [INFLATION], treaties, details=True)


def occurrence_xl() -> Program:
    groups = [Group(CLAIMS, poisson_table(1.2), [Component("fire", WIND, 0)]),
              Group(STRIKES, poisson_table(0.7), [Component("building", WIND, 0), Component("motor", DICE, 1)])]
    with_reinstatements = OccurrenceXl(Layer(25_000, 5_000), Layer(75_000, 2_500), 900_000, 850_000, 1_500,
                                       (1_000_000, 500_000))
    treaties = [
        Treaty(1, 0b01, 0b01, with_reinstatements),
        Treaty(1, 0b11, 0b10, OccurrenceXl(Layer(30_000, 12_345), Layer(60_000, 0), placed=333_333, premium=777,
                                           prices=(0,))),
        Treaty(1, 0b10, ALL_GROUPS, OccurrenceXl(Layer(MAX, 18_000), Layer(MAX, 9_999), 500_000)),
    ]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True, allocation=True)


def interleaved() -> Program:
    groups = [Group(CLAIMS, poisson_table(2.0), [Component("fire", WATER, 0)]),
              Group(STRIKES, poisson_table(1.0), [Component("storm", WIND, 0), Component("motor", DICE, 1)]),
              Group(CLAIMS, constant_table(1), [Component("theft", DICE, 1), Component("loss", WATER, 0)], picks(1, 1)),
              Group(ANNUAL, NOT_COUNTED, [Component("attrition", WATER, 1)])]
    treaties = [
        Treaty(1, 0b01, 0b0111, OccurrenceXl(Layer(20_000, 4_000), Layer(40_000, 1_000), premium=5_000,
                                             prices=(1_000_000,))),
        Treaty(2, 0b11, 0b0011, QuotaShare(600_000, 8_000)),
        Treaty(3, 0b11, ALL_GROUPS, OccurrenceXl(Layer(50_000, 10_000), Layer(50_000, 0), placed=700_000)),
    ]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True, allocation=True)


def not_interleaved() -> Program:
    """`interleaved`, but only a treaty that covers one group has annual terms: no order draws."""
    program = interleaved()
    first, second, third = program.treaties
    without_annual_terms = third.terms._replace(annual=Layer())
    return program._replace(treaties=[first._replace(groups=0b0001), second,
                                      third._replace(terms=without_annual_terms)])


def one_treaty(lines: int, listed: int) -> Program:
    """A treaty with annual terms, alone. Its lines and groups decide about order draws."""
    groups = [Group(ANNUAL, NOT_COUNTED, [Component("attrition", DICE, 0)]),
              Group(CLAIMS, constant_table(2), [Component("fire", DICE, 0)]),
              Group(STRIKES, constant_table(3), [Component("window", DICE, 2),
                                                 Component("theft", DICE, 1)])]
    treaty = Treaty(1, lines, listed, OccurrenceXl(Layer(15_000, 500), Layer(30_000, 0)))
    return Program(100, 0, MAX, 3, groups, [], [treaty], details=True)


def more_than_is_left() -> Program:
    groups = [Group(STRIKES, poisson_table(1.5), [Component("a", DICE, 0), Component("b", WATER, 1),
                                                  Component("c", constant(101), 2)])]
    treaties = [
        Treaty(1, 0b111, 1, QuotaShare(600_001)),
        Treaty(1, 0b101, 1, OccurrenceXl(Layer(15_000, 0))),
        Treaty(1, 0b110, 1, QuotaShare(600_001, 4_000)),
        Treaty(2, 0b111, 1, QuotaShare(1_000_000, 500)),
        Treaty(3, 0b011, 1, AggregateXl(Layer(9_000, 0))),
        Treaty(3, 0b110, 1, AggregateXl(Layer(MAX, 3_000), 999_999)),
        Treaty(4, 0b111, ALL_GROUPS, AggregateXl(Layer(4_000, 1_000), 500_000)),
    ]
    return Program(100, 0, MAX, 3, groups, [], treaties, details=True, allocation=True)


def cut_in_one_step() -> Program:
    groups = [Group(STRIKES, poisson_table(1.5), [Component("a", DICE, 0), Component("b", WATER, 1)]),
              Group(CLAIMS, poisson_table(1.0), [Component("c", WATER, 1)])]
    with_reinstatement = OccurrenceXl(Layer(12_000, 1_000), Layer(20_000, 500), placed=900_000, premium=700,
                                      prices=(1_000_000,))
    treaties = [
        Treaty(1, 0b11, ALL_GROUPS, QuotaShare(400_001)),
        Treaty(1, 0b10, ALL_GROUPS, with_reinstatement),
        Treaty(1, 0b11, 0b01, QuotaShare(500_000, 3_000)),
        Treaty(2, 0b11, ALL_GROUPS, OccurrenceXl(Layer(4_000, 0), Layer(6_000, 0))),
        Treaty(2, 0b11, ALL_GROUPS, OccurrenceXl(Layer(9_000, 4_000), Layer(9_000, 0))),
    ]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True, allocation=True)


def everything() -> Program:
    groups = [
        Group(ANNUAL, NOT_COUNTED, [Component("attrition", WATER, 3, index=0, deductible=500)]),
        Group(CLAIMS, poisson_table(3.0), [
            Component("fire", FIRE, 0, index=0, deductible=1_000, limit=40_000),
            Component("theft", DICE, 1, index=1, deductible=5_000, franchise=True, share=750_000),
        ], picks(3, 1)),
        Group(STRIKES, poisson_table(0.4), [
            Component("building", STORM, 0, index=0, limit=150_000, share=900_000),
            Component("motor", WIND, 2, same_rank=True, limit=80_000),
            Component("content", DICE, 1, index=1),
        ]),
        Group(CLAIMS, bernoulli_table(0.05), [Component("flood", WIND, 2, limit=1_000_000)]),
    ]
    treaties = [
        Treaty(1, 0b0001, 0b0110, QuotaShare(300_000, 20_000)),
        Treaty(1, 0b1000, ALL_GROUPS, QuotaShare(500_000)),
        Treaty(2, 0b0111, 0b1100, OccurrenceXl(Layer(60_000, 20_000), Layer(120_000, 5_000), 1_000_000, 900_000, 6_000,
                                               (1_000_000,))),
        Treaty(2, 0b0010, 0b0010, OccurrenceXl(Layer(10_000, 5_000), Layer(25_000, 0), 800_000)),
        Treaty(3, 0b0111, ALL_GROUPS, OccurrenceXl(Layer(100_000, 80_000), Layer(MAX, 0))),
        Treaty(4, 0b1111, ALL_GROUPS, AggregateXl(Layer(150_000, 60_000), 800_000)),
        Treaty(4, 0b0001, ALL_GROUPS, AggregateXl(Layer(20_000, 15_000))),
    ]
    indices = [INFLATION, steps((2**24, 3), (2**25, 1))]
    return Program(100, 0, MAX, 4, groups, indices, treaties, details=True, allocation=True)


def fixed_amounts() -> Program:
    groups = [
        Group(ANNUAL, NOT_COUNTED, [
            Component("levy", constant(2_400), 0), Component("the same levy", constant(2_400), 0),
            Component("rent", constant(4_000), 1, deductible=400, share=900_000),
            Component("wages", constant(6_000), 1, index=0), Component("attrition", steps((0, 2), (7_000, 1)), 2),
        ]),
        Group(CLAIMS, bernoulli_table(0.5), [Component("glass", constant(700), 0)]),
        Group(STRIKES, bernoulli_table(0.4), [Component("building", constant(3_000), 0),
                                              Component("motor", DICE, 1, limit=20_000, share=750_000),
                                              Component("content", WIND, 2, same_rank=True)]),
    ]
    treaties = [
        Treaty(1, 0b001, ALL_GROUPS, QuotaShare(250_000)),
        Treaty(1, 0b011, 0b101, QuotaShare(100_000)),
        Treaty(1, 0b010, ALL_GROUPS, QuotaShare(500_000, 300)),
        Treaty(2, 0b111, ALL_GROUPS, OccurrenceXl(Layer(5_000, 2_000), Layer(12_000, 0))),
        Treaty(4, 0b111, 0b001, QuotaShare(500_000)),
        Treaty(5, 0b011, ALL_GROUPS, AggregateXl(Layer(10_000, 6_000), 800_000)),
        Treaty(7, 0b111, ALL_GROUPS, AggregateXl(Layer(MAX, 9_000))),
    ]
    return Program(100, 123, 9_100, 3, groups, [steps((0, 3), (2**24, 1))], treaties, details=True)


def many_limits() -> Program:
    components = [Component(f"c{i}", DICE, i % 2, limit=1_500 * (i + 1), share=1_000_000 - 30_000 * (i % 3))
                  for i in range(5)]
    components += [Component(f"d{i}", DICE, 1, limit=999 * (i + 1)) for i in range(12)]
    groups = [Group(CLAIMS, constant_table(2), components[:5], picks(1, 1, 1, 1, 1)),
              Group(CLAIMS, constant_table(1), components[5:], picks(*[1] * 12))]
    treaties = [Treaty(1, 0b10, ALL_GROUPS, QuotaShare(500_000, 1_500))]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True)


def all_bits() -> Program:
    groups = [Group(CLAIMS, bernoulli_table(0.25), [Component(f"group {i}", DICE, i % 16, limit=20_000)])
              for i in range(32)]
    treaties = [Treaty(1, 0xFFFF, ALL_GROUPS, QuotaShare(123_456)),
                Treaty(2, 2**15, 2**31, OccurrenceXl(Layer(5_000, 1_000))),
                Treaty(2, 0x0F0F, 0x00FFFF00, OccurrenceXl(Layer(5_000, 1_000), Layer(7_000, 0))),
                Treaty(3, 0xFFFF, ALL_GROUPS, AggregateXl(Layer(50_000, 70_000)))]
    return Program(100, 0, MAX, 16, groups, [], treaties, details=True)


def largest_amounts() -> Program:
    huge = steps((MAX - 1, 1), (MAX, 1))
    groups = [Group(STRIKES, constant_table(3), [Component("a", huge, 0), Component("b", huge, 1, index=0)]),
              Group(CLAIMS, constant_table(1), [Component("c", huge, 0, deductible=1, limit=MAX, share=1)])]
    treaties = [Treaty(1, 0b11, ALL_GROUPS, QuotaShare(1)),
                Treaty(1, 0b10, ALL_GROUPS, OccurrenceXl(Layer(2**52, 2**51), Layer(MAX, 2**50), 999_999, 999_999,
                                                         2**40, (1_000_000, 1_000_000))),
                Treaty(2, 0b11, ALL_GROUPS, AggregateXl(Layer(MAX, MAX), 999_999))]
    return Program(100, 0, MAX, 2, groups, [constant(2**25)], treaties, details=True, allocation=True)


def sums_stop() -> Program:
    groups = [Group(CLAIMS, constant_table(700), [Component("a", constant(MAX), 0)]),
              Group(CLAIMS, constant_table(1), [Component("b", DICE, 1)])]
    treaties = [Treaty(1, 0b01, ALL_GROUPS, QuotaShare(500_000)),
                Treaty(2, 0b11, ALL_GROUPS, AggregateXl(Layer(2**50, 2**51)))]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True)


def atoms_beyond_max() -> Program:
    groups = [Group(STRIKES, constant_table(1), [Component("a", constant(MAX - 1), 0),
                                                 Component("b", constant(MAX - 3), 1)])]
    treaties = [Treaty(1, 0b11, ALL_GROUPS, QuotaShare(600_000)),
                Treaty(2, 0b11, ALL_GROUPS, OccurrenceXl(Layer(MAX, 2**52))),
                Treaty(3, 0b11, ALL_GROUPS, AggregateXl(Layer(2**50, 2**51)))]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True)


def linear_tables() -> Program:
    groups = [
        Group(ANNUAL, NOT_COUNTED, [Component("attrition", LEVEL, 1, index=0),
                                    Component("cost", line((0, 100), (0.5, 200), (1, 1_000)), 0, same_rank=True)]),
        Group(CLAIMS, poisson_table(1.8), [
            Component("fire", NARROW, 0, deductible=1_000, limit=40_000, share=900_000),
            Component("theft", LEVEL, 1, index=1, deductible=3_001, franchise=True),
        ], picks(2, 1)),
        Group(STRIKES, bernoulli_table(0.5), [
            Component("building", line((0, 0), (1, 25_000)), 0),
            Component("motor", LEVEL, 1, same_rank=True),
            Component("content", WIND, 1, same_rank=True, limit=30_000),
        ]),
    ]
    treaties = [
        Treaty(1, 0b01, ALL_GROUPS, QuotaShare(300_000)),
        Treaty(2, 0b11, 0b110, OccurrenceXl(Layer(20_000, 10_000), Layer(40_000, 0), placed=950_000, premium=900,
                                            prices=(1_000_000,))),
        Treaty(3, 0b11, ALL_GROUPS, AggregateXl(Layer(60_000, 30_000))),
    ]
    indices = [line((0, 2**23), (0.5, 2**24), (1, 2**25)), INFLATION]
    return Program(100, 0, MAX, 2, groups, indices, treaties, details=True, allocation=True)


def linear_to_max() -> Program:
    groups = [Group(STRIKES, constant_table(1), [Component("a", line((0, 0), (1, MAX)), 0),
                                                 Component("b", line((0, MAX - 1), (0.5, MAX), (1, MAX)), 1),
                                                 Component("c", NARROW, 1, index=0, same_rank=True)])]
    treaties = [Treaty(1, 0b01, ALL_GROUPS, OccurrenceXl(Layer(2**52, 2**50)))]
    return Program(100, 0, MAX, 2, groups, [line((0, 2**24), (1, MAX))], treaties, details=True)


def repeated_amounts() -> Program:
    groups = [
        Group(ANNUAL, NOT_COUNTED, [Component("levy", constant(800), 0), Component("rent", line((0, 700), (1, 700)), 0)]),
        Group(CLAIMS, bernoulli_table(0.6), [Component("sixteen", SIXTEEN, 0, deductible=100)]),
        Group(CLAIMS, bernoulli_table(0.6), [Component("seventeen", SEVENTEEN, 1)]),
        Group(STRIKES, bernoulli_table(0.3), [Component("level", line((0, 333), (0.5, 333), (1, 333)), 2),
                                              Component("steps", steps((333, 1), (333, 1)), 2)]),
    ]
    treaties = [Treaty(1, 0b111, ALL_GROUPS, QuotaShare(250_000))]
    return Program(100, 0, MAX, 3, groups, [], treaties, details=True)


def few_amounts() -> Program:
    """Totals that may be close to each other, from different lines."""
    groups = [
        Group(ANNUAL, NOT_COUNTED, [Component("levy", steps((0, 1), (99_900, 1)), 0)]),
        Group(CLAIMS, bernoulli_table(0.5), [Component("fire", constant(100_000), 1),
                                             Component("theft", DICE, 1, limit=50_000)], picks(2, 1)),
        Group(STRIKES, bernoulli_table(0.2), [Component("building", constant(199_900), 2),
                                              Component("motor", DICE, 0, same_rank=True)]),
    ]
    treaties = [
        Treaty(1, 0b100, ALL_GROUPS, QuotaShare(500_250)),
        Treaty(2, 0b111, ALL_GROUPS, OccurrenceXl(Layer(40_000, 60_000), Layer(50_000, 0))),
        Treaty(3, 0b011, ALL_GROUPS, AggregateXl(Layer(30_000, 100_000), 900_000)),
    ]
    return Program(100, 50, MAX, 3, groups, [], treaties, details=True, allocation=True)


def some_hundred_amounts() -> Program:
    """Some hundred totals and amounts of the first line; of all else few."""
    groups = [Group(ANNUAL, NOT_COUNTED, [Component("attrition", line((0, 90_000), (1, 90_400)), 0)]),
              Group(CLAIMS, bernoulli_table(0.3), [Component("fire", steps((10, 2), (1_000, 1)), 1)])]
    treaties = [Treaty(1, 0b10, ALL_GROUPS, QuotaShare(250_000))]
    return Program(100, 0, MAX, 2, groups, [], treaties, details=True, allocation=True)


def cases() -> list[Case]:
    return [
        Case("claims_with_picks", "A group of claims with four components, with policy terms, base and cap.", 200,
             claims_with_picks()),
        Case("first_pick_impossible", "A pick table with an offset; a group without occurrences.", 100,
             first_pick_impossible()),
        Case("strikes_of_the_same_rank", "Strikes that share draws; indices.", 150, strikes_of_the_same_rank()),
        Case("annual_groups", "Annual groups, before the claims, and what treaties take from them.", 150,
             annual_groups()),
        Case("occurrence_xl", "Layers with annual deductible, annual limit, reinstatements, placed, cession.", 150,
             occurrence_xl()),
        Case("interleaved", "Occurrences in a random order.", 150, interleaved()),
        Case("not_interleaved", "The same groups; only a treaty that covers one of them has annual"
             " terms: no order draws.", 200, not_interleaved()),
        Case("one_treaty_two_groups", "One treaty, with annual terms, that covers two groups, one"
             " by its second component: order draws.", 50, one_treaty(0b11, 0b110)),
        Case("one_group_on_the_lines", "A treaty with annual terms that lists two groups, of which"
             " one has a component on its lines: no order draws.", 50, one_treaty(0b01, 0b110)),
        Case("one_group_in_the_list", "A treaty with annual terms on the lines of two groups, of"
             " which it lists one: no order draws.", 50, one_treaty(0b11, 0b010)),
        Case("one_group_not_annual", "A treaty with annual terms that lists an annual group and one"
             " other, both on its lines: no order draws.", 50, one_treaty(0b01, 0b011)),
        Case("more_than_is_left", "Treaties of one step that would pay more than is left; aggregate XL treaties"
             " of two steps.", 150, more_than_is_left()),
        Case("cut_in_one_step", "Treaties of one step that cut each other, with annual terms, in a random order.",
             150, cut_in_one_step()),
        Case("everything", "All kinds of groups, terms and treaties; classes that are buckets.", 300, everything()),
        Case("many_limits", "Marks of many limits.", 200, many_limits()),
        Case("all_bits", "16 lines and 32 groups.", 40, all_bits()),
        Case("largest_amounts", "Amounts at and near MAX, and factors that exceed it.", 60, largest_amounts()),
        Case("sums_stop", "Sums of a year that stop at 2^62.", 3, sums_stop()),
        Case("fixed_amounts", "An annual group with constant amounts, two of them equal; a base, and a cap that many"
             " totals reach.", 200, fixed_amounts()),
        Case("atoms_beyond_max", "An atom of two components above MAX, of which treaties leave less.", 3,
             atoms_beyond_max()),
        Case("linear_tables", "Linear tables of components of all kinds of groups and of an index; level pieces,"
             " pieces without a draw.", 150, linear_tables()),
        Case("linear_to_max", "Linear tables of amounts from 0 to MAX.", 60, linear_to_max()),
        Case("repeated_amounts", "Step tables with repeated amounts, 16 and 17 of them; level linear tables, whose"
             " amounts are no atoms.", 200, repeated_amounts()),
        Case("few_amounts", "Few totals in many iterations, several in one bucket: classes that are amounts.", 400,
             few_amounts()),
        Case("256_totals", "A total with 256 distinct amounts, which are listed.", N_256, some_hundred_amounts(),
             seed="some_hundred_amounts"),
        Case("257_totals", "One iteration more, which has a new total: none are listed, and the classes are buckets.",
             N_256 + 1, some_hundred_amounts(), seed="some_hundred_amounts"),
    ]


def merges() -> list[Merge]:
    return [
        Merge("few amounts; the first part is without iterations", "few_amounts", [(2, 0), (0, 60), (1, 40)]),
        Merge("256 totals together, fewer in each part", "256_totals", [(0, 200), (1, M_256)]),
        Merge("257 totals together, fewer in each part", "256_totals", [(0, 200), (1, M_256 + 1)]),
        Merge("of three parts the second lists no totals", "256_totals",
              [(1, 30), (0, N_256 + 1), (2**32 - 1, 3)]),
    ]


# --- Rows
# --------------------------------------------------------------------------------------------------


def trace_of(year: execution.Iteration) -> dict[str, Any]:
    """The amounts of one iteration."""
    return {"counts": year.counts, "factors": year.factors, "total": year.total(), "largest": year.largest(),
            "gross": year.years[0], "after_steps": year.years[1:],
            "treaties": [{"ceded": treaty.ceded, "premium": treaty.premium()}
                         for treaty in year.treaties]}


def figures_of(result: shard.ShardResult) -> dict[str, Any]:
    """The sums of a result, to see where two implementations differ."""
    figures: dict[str, Any] = {
        "at_cap": result.at_cap, "sum": str(result.sum), "sum_of_squares": str(result.sum_of_squares),
        "components": [[a, b] for a, b in zip(result.occurrences, result.capped)], "marks": result.total.marks,
    }
    if result.details is not None:
        details = result.details
        figures["groups"] = [[str(amount) for amount in group.sums] for group in details.groups]
        figures["treaties"] = [{"counts": treaty.counts, "reinstated": [str(amount) for amount in treaty.reinstated],
                                "premium": str(treaty.premium)} for treaty in details.treaties]
        distributions = [result.total, result.largest] + [quantity.distribution for quantity in details.quantities]
        figures["listed"] = [len(distribution.listed or {}) for distribution in distributions]
        figures["quantities"] = [{"sum": str(quantity.sum), "minimum": quantity.distribution.minimum,
                                  "maximum": quantity.distribution.maximum, "marks": quantity.distribution.marks}
                                 for quantity in details.quantities]
    return figures


def portfolio_row(case: Case) -> dict[str, Any]:
    program, root = case.program, case.root()
    seed = core.leaf_seed(root, 0)
    trace = [trace_of(execution.Iteration(program, core.stream(seed, i))) for i in range(TRACED)]
    result = shard.run_range(program, root, 0, case.iterations)
    return {"name": case.name, "about": case.about, "program": program.to_bytes().hex(),
            "program_sha256": program.digest(), "root_seed": root.hex(), "leaf_seed": seed.hex(),
            "order_draws": execution.is_order_random(program), "iterations": case.iterations,
            "bytes": result.to_bytes().hex(), "sha256": result.digest(), "figures": figures_of(result), "trace": trace}


def leaf_result(case: Case, leaf: int, iterations: int) -> shard.ShardResult:
    """The result of the first iterations of a leaf."""
    first = leaf * core.LEAF_ITERATIONS
    return shard.run_range(case.program, case.root(), first, first + iterations)


def merged(program: Program, parts: list[shard.ShardResult]) -> shard.ShardResult:
    """What results of a program merge to."""
    result = shard.no_iterations(program)
    for part in parts:
        result.merge(part)
    return result


def result_row(result: shard.ShardResult) -> dict[str, Any]:
    return {"iterations": result.iterations, "bytes": result.to_bytes().hex(), "sha256": result.digest()}


def merge_row(merge: Merge) -> dict[str, Any]:
    (case,) = (case for case in cases() if case.name == merge.portfolio)
    parts = [leaf_result(case, leaf, iterations) for leaf, iterations in merge.parts]
    rows = [{"leaf": leaf, "leaf_seed": core.leaf_seed(case.root(), leaf).hex(), **result_row(part)}
            for (leaf, _), part in zip(merge.parts, parts)]
    return {"name": merge.name, "portfolio": merge.portfolio, "parts": rows,
            **result_row(merged(case.program, parts))}


def check_grouping(case: Case) -> None:
    """Checks that the bytes of a result do not depend on how its iterations are grouped (section 8.1)."""
    whole = leaf_result(case, 0, case.iterations).to_bytes()
    for cuts in ([1], [case.iterations - 1], [30, 30, 200], [100, 200, 300]):
        ends = [0, *cuts, case.iterations]
        parts = [shard.run_range(case.program, case.root(), first, last) for first, last in zip(ends, ends[1:])]
        for order in permutations(parts):
            pairs = [merged(case.program, list(order[i:i + 2])) for i in range(0, len(order), 2)]
            if merged(case.program, list(order)).to_bytes() != whole or merged(case.program, pairs).to_bytes() != whole:
                raise core.SpecError(f"the result of {case.name} depends on how its iterations are grouped")


def build_portfolios() -> dict[str, Any]:
    for case in cases():
        if case.iterations >= 300:
            check_grouping(case)
    return {"spec": "docs/determinism.md, sections 4 to 8",
            "comment": "Programs made by hand. program: its bytes in hex; bytes: those of the result of iterations 0 to"
                       " `iterations` − 1 of leaf 0 (shard 0-0 of a run of so many iterations). figures, to find a"
                       " difference: components [amounts, amounts at the limit]; groups [Σ c, Σ c², iterations without"
                       " loss, Σ g, Σ g²]; treaties: counts [occurrences with r > 0, with r = limit, iterations used"
                       " up]; quantities in the order of section 8.1; listed: how many amounts are listed, of the"
                       " total, the largest and the quantities. trace: the first iterations; gross and after_steps hold"
                       " an amount for each line. merges: results of a portfolio's program, of the first `iterations`"
                       " of a leaf each (from the portfolio's root seed), and what they merge to.",
            "portfolios": [portfolio_row(case) for case in cases()],
            "merges": [merge_row(merge) for merge in merges()]}

"""Programs of docs/determinism.md (section 6), their bytes, and those of insurance.v1 and eta.v1.

Part of the independent second implementation written from that document alone; see forge_reader.py
for its purpose and usage.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple, Union

from forge_core import SpecError, le, sha256
from forge_tables import (CountTable, LinearTable, LogNormal, Normal, QuantileTable, StepTable, bernoulli_table,
                          constant_table, poisson_table, quantile_table, table_bytes)

MAX = 2**53 - 1  # section 6
MILLION = 10**6  # section 6: fractions and prices are in millionths
CLAIMS, STRIKES, ANNUAL = 0, 1, 2  # section 6: kinds of groups
ALL_GROUPS = 2**32 - 1  # section 6: the groups of a treaty that covers all

AmountTable = Union[QuantileTable, StepTable, LinearTable]


class Component(NamedTuple):
    """Section 6: a component; the name is used by section 11 only, `index` is None without one."""

    name: str
    amounts: AmountTable
    line: int = 0
    index: Union[int, None] = None
    same_rank: bool = False
    deductible: int = 0
    franchise: bool = False
    limit: int = MAX
    share: int = MILLION


class Group(NamedTuple):
    """Section 6: a group; `picks` is None unless it has claims of several components."""

    kind: int
    counts: CountTable
    components: list[Component]
    picks: Union[CountTable, None] = None


class Layer(NamedTuple):
    """Section 6: a layer."""

    limit: int = MAX
    attachment: int = 0


class QuotaShare(NamedTuple):
    """Section 6: the terms of a quota share."""

    cession: int
    event_limit: int = MAX


class OccurrenceXl(NamedTuple):
    """Section 6: the terms of an occurrence XL; `prices` are its reinstatements' prices."""

    layer: Layer
    annual: Layer = Layer()
    cession: int = MILLION
    placed: int = MILLION
    premium: int = 0
    prices: tuple[int, ...] = ()


class AggregateXl(NamedTuple):
    """Section 6: the terms of an aggregate XL."""

    layer: Layer
    placed: int = MILLION


class Treaty(NamedTuple):
    """Section 6: a treaty; bit i of `lines` and `groups` is the i-th."""

    step: int
    lines: int
    groups: int
    terms: Union[QuotaShare, OccurrenceXl, AggregateXl]


class Program(NamedTuple):
    """Section 6: a program."""

    units: int
    base: int
    cap: int
    lines: int
    groups: list[Group]
    indices: list[AmountTable] = []
    treaties: list[Treaty] = []
    details: bool = False
    allocation: bool = False

    def components(self) -> list[Component]:
        """All components, in the order of the groups."""
        return [component for group in self.groups for component in group.components]

    def steps(self) -> list[int]:
        """The steps of the treaties, ascending."""
        return sorted({treaty.step for treaty in self.treaties})

    def to_bytes(self) -> bytes:
        """Section 6: the bytes of the program."""
        parts = [b"FKPG", le(1, 4), le(self.units, 4), le(self.base, 8), le(self.cap, 8), le(self.lines, 4),
                 le(self.details + 2 * self.allocation, 4), le(len(self.indices), 4)]
        parts += [amounts_bytes(table) for table in self.indices]
        parts.append(le(len(self.groups), 4))
        parts += [group_bytes(group) for group in self.groups]
        parts.append(le(len(self.treaties), 4))
        parts += [treaty_bytes(treaty) for treaty in self.treaties]
        return b"".join(parts)

    def digest(self) -> str:
        """Section 6: the hex digest of the program."""
        return sha256(self.to_bytes()).hex()


# --- Section 6: bytes
# --------------------------------------------------------------------------------------------------


def counts_bytes(table: CountTable) -> bytes:
    """Section 6: counts."""
    parts = [le(table.offset, 4), le(len(table.thresholds), 4)]
    return b"".join(parts + [le(threshold, 8) for threshold in table.thresholds])


def amounts_bytes(table: AmountTable) -> bytes:
    """Section 6: amounts."""
    if isinstance(table, QuantileTable):
        return le(0, 4) + le(table.bits, 4) + table_bytes(table.entries)
    kind = 2 if isinstance(table, LinearTable) else 1
    parts = [le(kind, 4), le(len(table.thresholds), 4)]
    return b"".join(parts + [le(value, 8) for value in table.thresholds + table.amounts])


def component_bytes(component: Component) -> bytes:
    """Section 6: component."""
    index = 0 if component.index is None else component.index + 1
    return b"".join([le(component.line, 4), le(index, 4), le(component.same_rank + 2 * component.franchise, 4),
                     le(component.deductible, 8), le(component.limit, 8), le(component.share, 4),
                     amounts_bytes(component.amounts)])


def group_bytes(group: Group) -> bytes:
    """Section 6: group."""
    parts = [le(group.kind, 4), counts_bytes(group.counts), le(len(group.components), 4)]
    if group.kind == CLAIMS and len(group.components) > 1:
        parts.append(counts_bytes(group.picks))
    return b"".join(parts + [component_bytes(component) for component in group.components])


def layer_bytes(layer: Layer) -> bytes:
    """Section 6: layer."""
    return le(layer.limit, 8) + le(layer.attachment, 8)


def treaty_bytes(treaty: Treaty) -> bytes:
    """Section 6: treaty."""
    terms = treaty.terms
    if isinstance(terms, QuotaShare):
        kind, parts = 0, [le(terms.cession, 4), le(terms.event_limit, 8)]
    elif isinstance(terms, OccurrenceXl):
        kind, parts = 1, [le(terms.cession, 4), layer_bytes(terms.layer), layer_bytes(terms.annual),
                          le(terms.placed, 4), le(terms.premium, 8), le(len(terms.prices), 4)]
        parts += [le(price, 4) for price in terms.prices]
    else:
        kind, parts = 2, [layer_bytes(terms.layer), le(terms.placed, 4)]
    return b"".join([le(treaty.step, 4), le(treaty.lines, 4), le(treaty.groups, 4), le(kind, 4)] + parts)


# --- Sections 6.1 and 6.2
# --------------------------------------------------------------------------------------------------


def minor_units(value: float, units: int) -> int:
    """Section 6: ⌊units·x + 1/2⌋, x exactly the binary64 number."""
    scaled = Fraction(value) * units + Fraction(1, 2)
    return scaled.numerator // scaled.denominator


def limit(args: dict[str, Any], name: str, units: int) -> int:
    """Section 6: the limit in minor units; MAX without one."""
    if name not in args:
        return MAX
    amount = minor_units(args[name], units)
    if not 0 <= amount <= MAX:
        raise SpecError(f"{name}: the document does not say what a limit outside of 0 … MAX minor units is")
    return amount


def lognormal_bits(sigma: float) -> int:
    """Section 6: `segment_bits` of a lognormal."""
    return 6 if sigma <= 4 else 7


def claims_of(name: str, counts: CountTable, amounts: AmountTable, most: int = MAX) -> Group:
    """Section 6.1: a group of claims with one component."""
    return Group(CLAIMS, counts, [Component(name, amounts, limit=most)])


def insurance_program(args: dict[str, Any]) -> Program:
    """Section 6.1."""
    bits = max(lognormal_bits(args[key]) for key in ("claim_severity_sig", "cat_sig") if key in args)
    severity = LogNormal(args["claim_severity_mu"], args["claim_severity_sig"])
    groups = [claims_of("claims", poisson_table(args["claim_freq"]),
                        QuantileTable(bits, quantile_table(severity, 100, bits)), limit(args, "policy_limit", 100))]
    if "cat_prob" in args:
        catastrophe = LogNormal(args["cat_mu"], args["cat_sig"])
        groups.append(claims_of("catastrophe", bernoulli_table(args["cat_prob"]),
                                QuantileTable(bits, quantile_table(catastrophe, 100, bits))))
    return Program(100, 0, limit(args, "aggregate_limit", 100), 1, groups)


def eta_program(args: dict[str, Any]) -> Program:
    """Section 6.2."""
    base = minor_units(args["base_eta"], 1000)
    if not 0 <= base <= MAX:
        raise SpecError("base_eta: the document does not say what a base outside of 0 … MAX minor units is")
    traffic = Normal(args["traffic_mean"], args["traffic_std"])
    groups = [claims_of("traffic", constant_table(1), QuantileTable(6, quantile_table(traffic, 1000, 6)))]
    for name in ("weather", "incident"):
        if f"{name}_prob" in args:
            law = Normal(args[f"{name}_mean"], args[f"{name}_std"])
            groups.append(claims_of(name, bernoulli_table(args[f"{name}_prob"]),
                                    QuantileTable(6, quantile_table(law, 1000, 6))))
    return Program(1000, base, MAX, 1, groups)

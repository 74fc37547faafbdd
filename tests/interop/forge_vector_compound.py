"""The contents of compound.json: laws, args and results of risk.compound.v1.

Part of the independent second implementation written from docs/determinism.md alone; see
forge_reader.py for its purpose and usage.
"""

from __future__ import annotations

import json
from decimal import localcontext
from typing import Any

import forge_compound as compound
import forge_core as core
import forge_execution as execution
import forge_program as program
import forge_reader as reader
import forge_shard as shard
from forge_tables import LONG_DIGITS, LinearTable, context, table_bytes

BITS = 4  # segment bits of the tables of single laws

COUNTS: list[dict[str, Any]] = [
    {"poisson": 2.5}, {"bernoulli": {"probability": 0.25}}, {"constant": 3}, {"geometric": 1}, {"geometric": 3.7},
    {"binomial": {"trials": 2, "probability": 0.5}}, {"binomial": {"trials": 40, "probability": 0.1}},
    {"binomial": {"trials": 5, "probability": 1}}, {"binomial": {"trials": 1000, "probability": 0.9}},
    {"negative_binomial": {"mean": 2, "contagion": 0}}, {"negative_binomial": {"mean": 2, "contagion": 0.5}},
    {"negative_binomial": {"r": 0.3, "beta": 4}}, {"negative_binomial": {"r": 1, "beta": 1}},
    {"discrete": {"probabilities": [0, 1, 2, 1]}}, {"discrete": {"probabilities": [0.1, 0.2, 0.3, 0]}},
    {"zero_modified": {"p0": 0.5, "of": {"poisson": 1.5}}}, {"zero_modified": {"p0": 0, "of": {"geometric": 1}}},
    {"zero_modified": {"p0": 0.25, "of": {"binomial": {"trials": 3, "probability": 0.5}}}},
]
SEVERITIES: list[dict[str, Any]] = [
    {"lognormal": {"mu": 6, "sigma": 1}}, {"lognormal": {"mean": 1000, "cv": 2.5}}, {"exponential": 300},
    {"weibull": {"shape": 0.75, "scale": 500}}, {"weibull": {"shape": 3, "scale": 0.01}},
    {"pareto": {"threshold": 100, "alpha": 1}}, {"pareto": {"threshold": 250.5, "alpha": 2.3}},
    {"lomax": {"alpha": 2, "scale": 800}}, {"lomax": {"alpha": 0.5, "scale": 10}},
    {"gpd": {"threshold": 0, "scale": 400, "xi": 0}}, {"gpd": {"threshold": 50, "scale": 400, "xi": 0.25}},
    {"gpd": {"threshold": 50, "scale": 400, "xi": -0.5}}, {"gpd": {"threshold": 1000, "scale": 10, "xi": -1}},
    {"burr": {"alpha": 1, "scale": 300, "gamma": 1}}, {"burr": {"alpha": 1.7, "scale": 300, "gamma": 2.2}},
    {"uniform": {"low": 0, "high": 1000}}, {"uniform": {"low": 12.34, "high": 56.78}},
    {"normal": {"mean": 500, "cv": 0.3}}, {"normal": {"mean": 0, "std_dev": 80}},
    {"gamma": {"shape": 2.5, "scale": 120}}, {"gamma": {"shape": 0.5, "scale": 1000}},
    {"gamma": {"mean": 1000, "cv": 0.4}},
    {"beta": {"a": 2.3, "b": 3.7, "scale": 1000}}, {"beta": {"a": 2, "b": 1, "scale": 1000}}, {"beta": {"mean": 300, "cv": 0.75, "scale": 1000}},
    {"inverse_gaussian": {"mean": 1000, "cv": 0.5}}, {"inverse_gaussian": {"mean": 250, "lambda": 100}},
    {"weibull": {"mean": 1000, "cv": 1}}, {"weibull": {"mean": 1000, "cv": 0.25}}, {"weibull": {"mean": 20.5, "cv": 5}},
    {"lomax": {"mean": 1000, "cv": 1.5}}, {"uniform": {"mean": 1000, "cv": 0.3}},
    {"gpd": {"threshold": 500, "mean": 800, "cv": 0.375}}, {"gpd": {"threshold": 500, "mean": 800, "cv": 0.9}},
    {"gpd": {"threshold": 0, "mean": 800.1, "cv": 0.7}},
]
# Severities whose tables list amounts, and the minor units in one unit.
TABLES: list[tuple[dict[str, Any], int]] = [
    ({"constant": 12.345}, 100),
    ({"discrete": {"amounts": [0], "probabilities": [1]}}, 100),
    ({"discrete": {"amounts": [100, 250.5, 1000], "probabilities": [1, 2, 1]}}, 100),
    # Probabilities of 0 at both ends and in between.
    ({"discrete": {"amounts": [1, 2, 3, 4, 5, 6, 7], "probabilities": [0, 0, 3, 0, 1, 0, 0]}}, 1),
    # Every draw gives the middle amount: 2^64 · 10^(−20) is below 1.
    ({"discrete": {"amounts": [1, 2, 3], "probabilities": [1e-20, 1, 1e-20]}}, 100),
    # Amounts that are equal in minor units, and sums that are not exact in binary64.
    ({"discrete": {"amounts": [0.001, 0.002, 0.005, 0.006, 0.015], "probabilities": [0.1, 0.2, 0.3, 0.4, 0.7]}}, 100),
    ({"discrete": {"amounts": [0, 1e-9, 1e13], "probabilities": [1e9, 1e-9, 0.5]}}, 100),
    ({"empirical": {"sample": [5]}}, 1000),
    ({"empirical": {"sample": [3, 1, 2, 1, 0, 1]}}, 10),
    ({"empirical": {"sample": [1.005, 0.025, 0.015, 0.005, 0.0049]}}, 100),
    ({"empirical": {"sample": [i * 37 % 101 / 8 for i in range(24)]}}, 10_000),
    ({"piecewise": {"probabilities": [0, 1], "amounts": [0, 1000]}}, 100),
    ({"piecewise": {"probabilities": [0, 1], "amounts": [7, 7]}}, 100),
    # Level pieces.
    ({"piecewise": {"probabilities": [0, 0.25, 0.5, 0.75, 1], "amounts": [0, 0, 100.5, 100.5, 5000]}}, 100),
    # Thresholds of 0 and pieces without a draw: 2^64 · 10^(−30) is below 1.
    ({"piecewise": {"probabilities": [0, 1e-30, 2e-30, 0.1, 0.9, 0.9999999999999999, 1],
                    "amounts": [1, 2, 3, 4, 5.006, 1e6, 1e13]}}, 100),
    ({"piecewise": {"probabilities": [0, 2.0**-64, 2.0**-63, 1], "amounts": [0, 0.4, 1, 2]}}, 1),
]

SMALL = {
    "iterations": 300, "lines": ["fire"],
    "groups": [{"name": "claims", "count": {"poisson": 2}, "claims": [{"line": "fire", "severity": {"exponential": 50}}]}],
}
REINSURED = {
    "iterations": 400, "decimals": 1, "lines": ["property", "motor"],
    "groups": [
        {"name": "attrition", "annual": [
            {"line": "motor", "amount": {"normal": {"mean": 4000, "cv": 0.15}}, "index": "inflation"}]},
        {"name": "fire", "count": {"negative_binomial": {"mean": 1.5, "contagion": 0.4}}, "claims": [
            {"line": "property", "weight": 3, "severity": {"lognormal": {"mean": 900, "cv": 2}}, "deductible": 50,
             "limit": 8000, "index": "inflation"},
            {"line": "property", "severity": {"pareto": {"threshold": 500, "alpha": 2}}, "share": 0.75}]},
        {"name": "storm", "count": {"bernoulli": 0.3}, "strikes": [
            {"line": "property", "severity": {"gpd": {"threshold": 0, "scale": 3000, "xi": 0.25}}},
            {"line": "motor", "severity": {"uniform": {"low": 0, "high": 2500}}, "rank": "same", "franchise": 300}]},
    ],
    "indices": [{"name": "inflation", "lognormal": {"mean": 1.03, "cv": 0.02}}],
    "treaties": [
        {"name": "quota", "kind": "quota_share", "covers": ["property"], "cession": 0.25, "commission": 0.2,
         "premium": 5000, "groups": ["fire", "storm"]},
        {"name": "layer", "kind": "occurrence_xl", "step": 2, "covers": ["property", "motor"], "attachment": 2000,
         "limit": 4000, "reinstatements": [1, 0.5], "premium": 350, "aad": 500, "placed": 0.9},
        {"name": "second layer", "kind": "occurrence_xl", "step": 3, "covers": ["property"], "attachment": 1500,
         "limit": 5000, "reinstatements": []},
        {"name": "stop loss", "kind": "aggregate_xl", "step": 4, "covers": ["property", "motor"],
         "attachment_ratio": 1.1, "limit_ratio": 0.4, "premium": 5500},
    ],
    "report": {"allocation": True, "levels": [0.99, 0.5], "return_periods": [100, 10, 2]},
    "capital": {"own_funds": 9000, "level": 0.9, "measure": "tvar"},
}
LISTED = {
    "iterations": 400, "decimals": 1, "lines": ["property", "motor"],
    "groups": [
        {"name": "costs", "annual": [
            {"line": "motor", "amount": {"empirical": {"sample": [250.25]}}},
            {"line": "motor", "amount": {"piecewise": {"probabilities": [0, 0.3, 1], "amounts": [900, 1000, 1400]}},
             "index": "inflation"}]},
        {"name": "fire", "count": {"poisson": 1.5}, "claims": [
            {"line": "property", "severity": {"empirical": {
                "sample": [310, 75.25, 0, 1200.05, 75.25, 480, 2600, 95.5, 75.25, 5400, 150, 33.3]}}, "deductible": 50,
             "limit": 4000},
            {"line": "property", "weight": 0.5, "severity": {"discrete": {
                "amounts": [0, 100, 500, 2500, 10000], "probabilities": [0, 4, 3, 2, 0]}}, "index": "inflation"}]},
        {"name": "storm", "count": {"bernoulli": 0.4}, "strikes": [
            {"line": "property", "severity": {"piecewise": {
                "probabilities": [0, 0.5, 0.9, 0.99, 1], "amounts": [100, 100, 1500, 6000, 20000]}}, "share": 0.75},
            {"line": "motor", "severity": {"discrete": {
                "amounts": [10, 20.05, 400], "probabilities": [0.5, 0.25, 0.25]}}, "rank": "same"}]},
    ],
    "indices": [{"name": "inflation", "lognormal": {"mean": 1.03, "cv": 0.02}}],
    "treaties": [
        {"name": "layer", "kind": "occurrence_xl", "covers": ["property", "motor"], "attachment": 1000, "limit": 3000,
         "reinstatements": [1], "premium": 250},
        {"name": "stop loss", "kind": "aggregate_xl", "step": 2, "covers": ["property"], "attachment": 3000,
         "limit": 5000},
    ],
    "report": {"levels": [0.9], "return_periods": [20]},
}
# Every kind of commission, and a group whose largest occurrence has no law beside one that has.
COMMISSIONS = {
    "iterations": 400, "lines": ["fire", "flood"],
    "groups": [
        {"name": "claims", "count": {"poisson": 2}, "claims": [{"line": "fire", "severity": {"exponential": 50}}]},
        {"name": "flood", "count": {"poisson": 0.8}, "claims": [
            {"line": "flood", "severity": {"pareto": {"threshold": 100, "alpha": 1.5}}, "index": "inflation"}]},
    ],
    "indices": [{"name": "inflation", "uniform": {"low": 0.9, "high": 1.2}}],
    "treaties": [
        {"name": "sliding", "kind": "quota_share", "covers": ["fire"], "cession": 0.4, "premium": 300, "commission": [
            {"loss_ratio": 0.1, "rate": 0.4}, {"loss_ratio": 0.45, "rate": 0.3}, {"loss_ratio": 1.5, "rate": 0.05}],
         "profit_commission": {"share": 0.2, "margin": 0.05}},
        {"name": "flat", "kind": "quota_share", "covers": ["flood"], "cession": 0.25, "premium": 800,
         "commission": 0.25, "profit_commission": {"share": 0.5}},
        {"name": "layer", "kind": "occurrence_xl", "step": 2, "covers": ["flood"], "attachment": 150, "limit": 600,
         "premium": 200, "placed": 0.8, "profit_commission": {"share": 0.15, "margin": 0.25}},
        {"name": "stop loss", "kind": "aggregate_xl", "step": 3, "covers": ["fire", "flood"], "attachment": 250,
         "limit": 400, "premium": 90, "profit_commission": {"share": 0.1}},
    ],
    "report": {"levels": [0.9], "return_periods": [2, 20]},
}
# Net totals of 999 and 1000 units in one bucket, each from one line.
CLOSE_TOTALS = {
    "iterations": 300, "lines": ["fire", "flood"],
    "groups": [{"name": "claims", "count": {"constant": 1}, "claims": [
        {"line": "fire", "severity": {"constant": 999}}, {"line": "flood", "severity": {"constant": 2000}}]}],
    "treaties": [{"name": "quota", "kind": "quota_share", "covers": ["flood"], "cession": 0.5}],
    "report": {"allocation": True, "levels": [0.25, 0.9], "return_periods": [4]},
    "capital": {"own_funds": 999, "level": 0.25},
}
PORTFOLIOS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "small, one iteration, null is absent": {**SMALL, "iterations": 1, "treaties": [], "indices": None, "capital": None},
    "reinsured": REINSURED,
    "reinsured, no allocation": {**REINSURED, "iterations": 50, "report": {"levels": [0.9], "return_periods": [20]}},
    "amounts in lists": LISTED,
    "commissions": COMMISSIONS,
    "close totals": CLOSE_TOTALS,
}


def count_row(count: dict[str, Any]) -> dict[str, Any]:
    offset, thresholds = compound.counts_of(count)
    return {"count": count, "offset": offset, "length": len(thresholds),
            "thresholds": [str(threshold) for threshold in thresholds[:5]],
            "sha256": core.sha256(b"".join(core.le(threshold, 8) for threshold in thresholds)).hex()}


def severity_row(severity: dict[str, Any]) -> dict[str, Any]:
    with localcontext(context(LONG_DIGITS)):
        family, parameters = compound.family_of(severity)
        law, bits = compound.SEVERITIES[family](parameters)
    table = compound.law_table(law, 100, BITS)
    middle = 64 << BITS
    return {"severity": severity, "segment_bits": bits, "units": 100, "table_bits": BITS,
            "sha256": core.sha256(table_bytes(table)).hex(),
            "sample": [{"index": i, **table[i]._asdict()} for i in (0, middle - 1, middle, 2 * middle - 1)]}


def draws_of(thresholds: list[int]) -> list[int]:
    """Draws at both ends, in the middle, around some thresholds, and in some pieces."""
    some = thresholds[:6] + thresholds[-2:]
    bounds = [0, *some, 2**64]
    draws = {0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1}
    draws |= {draw for threshold in some for draw in (threshold - 1, threshold, threshold + 1)}
    draws |= {low + (high - low) // 3 for low, high in zip(bounds, bounds[1:])}
    return sorted(draw for draw in draws if 0 <= draw < 2**64)


def table_row(severity: dict[str, Any], units: int) -> dict[str, Any]:
    table = compound.amounts_of(severity, units)
    return {"severity": severity, "units": units, "kind": "linear" if isinstance(table, LinearTable) else "steps",
            "thresholds": [str(threshold) for threshold in table.thresholds], "amounts": table.amounts,
            "sha256": core.sha256(program.amounts_bytes(table)).hex(),
            "draws": [{"draw": str(draw), "amount": execution.drawn_amount(draw, table)}
                      for draw in draws_of(table.thresholds)]}


def portfolio_row(name: str, args: dict[str, Any]) -> dict[str, Any]:
    envelope = {"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args,
                "seed": {"mode": "derived"}}
    run = reader.run_of(reader.parse_json(json.dumps(envelope)))
    result = shard.run_shard(run.program(), run.root(), 0, 0, run.args["iterations"])
    text = reader.document(run, result, "budget_exhausted")
    return {"name": name, "envelope": envelope, "normalised_args": core.jcs(run.args), "program": run.program().digest(),
            "shard_sha256": result.digest(), "result_hash": core.sha256(text.encode()).hex(), "result": text}


def build_compound() -> dict[str, Any]:
    return {"spec": "docs/determinism.md, sections 5, 6, 11.1 and 12.1",
            "comment": "counts: count tables; sha256 is over the stored thresholds as u64le, of which the first are"
                       " listed. severities: quantile tables with table_bits segment bits; segment_bits is what section"
                       " 6 prescribes; sha256 is over the bytes of all entries. portfolios: whole runs, as in"
                       " results.json. tables: step tables and linear tables; sha256 is over their bytes of section 6;"
                       " draws lists the amounts of single draws.",
            "counts": [count_row(count) for count in COUNTS],
            "severities": [severity_row(severity) for severity in SEVERITIES],
            "portfolios": [portfolio_row(name, args) for name, args in PORTFOLIOS.items()],
            "tables": [table_row(severity, units) for severity, units in TABLES]}

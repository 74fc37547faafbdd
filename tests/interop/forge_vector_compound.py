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
import forge_reader as reader
import forge_shard as shard
from forge_tables import LONG_DIGITS, context, table_bytes

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
         "groups": ["fire", "storm"]},
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
PORTFOLIOS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "small, one iteration, null is absent": {**SMALL, "iterations": 1, "treaties": [], "indices": None, "capital": None},
    "reinsured": REINSURED,
    "reinsured, no allocation": {**REINSURED, "iterations": 50, "report": {"levels": [0.9], "return_periods": [20]}},
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
                       " results.json.",
            "counts": [count_row(count) for count in COUNTS],
            "severities": [severity_row(severity) for severity in SEVERITIES],
            "portfolios": [portfolio_row(name, args) for name, args in PORTFOLIOS.items()]}

//! Args with plausible values, as templates.

use serde_json::{Value, json};

/// A portfolio of three lines with attritional, large and windstorm losses, and treaties in three
/// steps.
pub fn portfolio() -> Value {
    json!({
        "iterations": 1_000_000,
        "decimals": 2,
        "lines": ["property", "motor", "liability"],
        "groups": [
            {"name": "attritional", "annual": [
                {"line": "motor", "amount": {"lognormal": {"mean": 42_000_000, "cv": 0.06}}},
                {"line": "property", "amount": {"gamma": {"mean": 18_000_000, "cv": 0.09}}},
                {"line": "liability", "amount": {"lognormal": {"mean": 25_000_000, "cv": 0.12}}}
            ]},
            {"name": "large", "count": {"negative_binomial": {"mean": 14, "contagion": 0.08}}, "claims": [
                {"line": "property", "weight": 0.5, "severity": {"pareto": {"threshold": 250_000, "alpha": 1.6}},
                 "limit": 20_000_000},
                {"line": "motor", "weight": 0.3, "severity": {"lognormal": {"mu": 12.9, "sigma": 1.1}}},
                {"line": "liability", "weight": 0.2,
                 "severity": {"gpd": {"threshold": 300_000, "scale": 210_000, "xi": 0.55}},
                 "deductible": 100_000, "limit": 15_000_000, "index": "inflation"}
            ]},
            {"name": "windstorm", "count": {"negative_binomial": {"mean": 1.8, "contagion": 0.35}}, "strikes": [
                {"line": "property", "severity": {"lognormal": {"mean": 9_000_000, "cv": 2.8}}},
                {"line": "motor", "severity": {"lognormal": {"mean": 1_200_000, "cv": 2.2}}, "rank": "same"}
            ]}
        ],
        "indices": [{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}],
        "treaties": [
            {"name": "Motor QS", "step": 1, "kind": "quota_share", "covers": ["motor"], "cession": 0.2,
             "premium": 60_000_000, "commission": 0.27},
            {"name": "Property risk XL", "step": 1, "kind": "occurrence_xl", "covers": ["property"],
             "groups": ["large"], "limit": 5_000_000, "attachment": 2_000_000, "aad": 1_000_000,
             "aal": 15_000_000},
            {"name": "Cat XL 1", "step": 2, "kind": "occurrence_xl", "covers": ["property", "motor"],
             "groups": ["windstorm"], "limit": 20_000_000, "attachment": 10_000_000, "placed": 0.9,
             "reinstatements": [1.0, 1.0], "premium": 2_600_000},
            {"name": "Cat XL 2", "step": 2, "kind": "occurrence_xl", "covers": ["property", "motor"],
             "groups": ["windstorm"], "limit": 40_000_000, "attachment": 30_000_000, "reinstatements": [1.0],
             "premium": 1_900_000},
            {"name": "Stop loss", "step": 3, "kind": "aggregate_xl", "covers": ["property", "motor", "liability"],
             "limit": 25_000_000, "attachment": 135_000_000, "placed": 0.85, "premium": 900_000}
        ],
        "capital": {"own_funds": 400_000_000, "measure": "var", "level": 0.995},
        "report": {
            "allocation": true,
            "return_periods": [2, 5, 10, 25, 50, 100, 200, 250, 500, 1000, 10000],
            "levels": [0.5, 0.9, 0.95, 0.99, 0.995, 0.999]
        }
    })
}

/// A catastrophe programme of three layers with reinstatements.
pub fn tower() -> Value {
    json!({
        "iterations": 1_000_000,
        "lines": ["property"],
        "groups": [
            {"name": "catastrophe", "count": {"poisson": 0.8}, "strikes": [
                {"line": "property", "severity": {"pareto": {"threshold": 2_000_000, "alpha": 1.3}},
                 "limit": 500_000_000}
            ]}
        ],
        "treaties": [
            {"name": "Layer 1", "kind": "occurrence_xl", "covers": ["property"], "limit": 10_000_000,
             "attachment": 5_000_000, "reinstatements": [1.0, 1.0], "premium": 2_400_000},
            {"name": "Layer 2", "kind": "occurrence_xl", "covers": ["property"], "limit": 25_000_000,
             "attachment": 15_000_000, "reinstatements": [1.0], "premium": 2_000_000},
            {"name": "Layer 3", "kind": "occurrence_xl", "covers": ["property"], "limit": 60_000_000,
             "attachment": 40_000_000, "placed": 0.9, "reinstatements": [1.0], "premium": 1_500_000}
        ]
    })
}

/// Two lines under a common stop loss, with capital figures and the allocation of the tail.
pub fn capital() -> Value {
    json!({
        "iterations": 1_000_000,
        "lines": ["motor", "property"],
        "groups": [
            {"name": "attritional", "annual": [
                {"line": "motor", "amount": {"lognormal": {"mean": 30_000_000, "cv": 0.08}}},
                {"line": "property", "amount": {"gamma": {"mean": 12_000_000, "cv": 0.1}}}
            ]},
            {"name": "storm", "count": {"poisson": 1.2}, "strikes": [
                {"line": "property", "severity": {"lognormal": {"mean": 4_000_000, "cv": 2.5}}},
                {"line": "motor", "severity": {"lognormal": {"mean": 800_000, "cv": 2}}, "rank": "same"}
            ]}
        ],
        "treaties": [
            {"name": "Stop loss", "kind": "aggregate_xl", "covers": ["motor", "property"], "limit": 20_000_000,
             "attachment": 60_000_000, "premium": 700_000}
        ],
        "capital": {"own_funds": 35_000_000, "level": 0.995},
        "report": {"allocation": true}
    })
}

/// The events of a catastrophe model, which strike two lines, under a programme of two layers.
pub fn events() -> Value {
    json!({
        "iterations": 1_000_000,
        "lines": ["property", "motor"],
        "groups": [
            {"name": "windstorm", "events": {
                "rates": [0.2, 0.1, 0.05, 0.02, 0.01, 0.004, 0.001],
                "losses": [
                    {"line": "property",
                     "amounts": [1_500_000, 4_000_000, 9_000_000, 22_000_000, 40_000_000, 75_000_000, 160_000_000]},
                    {"line": "motor",
                     "amounts": [600_000, 200_000, 2_500_000, 1_000_000, 6_000_000, 9_000_000, 12_000_000]}
                ]
            }}
        ],
        "treaties": [
            {"name": "Layer 1", "kind": "occurrence_xl", "covers": ["property", "motor"], "limit": 20_000_000,
             "attachment": 5_000_000, "reinstatements": [1.0], "premium": 1_400_000},
            {"name": "Layer 2", "kind": "occurrence_xl", "covers": ["property", "motor"], "limit": 75_000_000,
             "attachment": 25_000_000, "reinstatements": [1.0], "premium": 1_300_000}
        ]
    })
}

/// One line whose claims are a mixture of small ones and large ones above a threshold.
pub fn mixture() -> Value {
    json!({
        "iterations": 1_000_000,
        "lines": ["liability"],
        "groups": [
            {"name": "claims", "count": {"negative_binomial": {"mean": 40, "contagion": 0.05}}, "claims": [
                {"line": "liability", "weight": 0.92, "severity": {"gamma": {"mean": 12_000, "cv": 1.1}}},
                {"line": "liability", "weight": 0.08,
                 "severity": {"gpd": {"threshold": 50_000, "scale": 60_000, "xi": 0.4}}, "limit": 5_000_000}
            ]}
        ]
    })
}

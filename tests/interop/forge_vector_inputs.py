"""Inputs of the vector files in tests/vectors/v1: envelopes, args, laws, distributions, settings.

Part of the independent second implementation written from docs/determinism.md alone; see
forge_reader.py for its purpose and usage.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Iterator

import forge_core as core
import forge_program as programs


def pseudo_random(label: str, count: int) -> Iterator[int]:
    """Pseudo-random numbers below 2^64. The vectors contain them, so their algorithm does not
    matter.
    """
    for i in range(count):
        yield int.from_bytes(core.sha256(f"{label}/{i}".encode())[:8], "little")


# --- Envelopes
# --------------------------------------------------------------------------------------------------

MC = {"name": "mc", "version": 1}
QUICKSTART = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 2000, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0,
             "cat_prob": 0.02, "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50000, "aggregate_limit": 250000},
    "seed": {"mode": "explicit", "value": "ROOT_SEED_QUICKSTART"},
}
REQUIRED_ONLY = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 1000, "claim_freq": 3.7, "claim_severity_mu": 7.25, "claim_severity_sig": 0.8},
    "seed": {"mode": "derived"},
}
LIMITS = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 2000, "claim_freq": 2.5, "claim_severity_mu": 6.0, "claim_severity_sig": 1.2,
             "cat_prob": 0.25, "cat_mu": 7.0, "cat_sig": 0.5, "policy_limit": 500.005, "aggregate_limit": 1200},
    "seed": {"mode": "derived"},
}
WIDE = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 600, "claim_freq": 1.5, "claim_severity_mu": 2.0, "claim_severity_sig": 0.5,
             "cat_prob": 0.5, "cat_mu": 3.0, "cat_sig": 4.5},
    "seed": {"mode": "explicit", "value": "wide"},
}
SATURATED = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 200, "claim_freq": 50, "claim_severity_mu": 20, "claim_severity_sig": 5},
    "seed": {"mode": "explicit", "value": "saturated"},
}
NO_CLAIMS = {
    "op": {**MC, "profile": "insurance.v1"},
    "args": {"iterations": 400, "claim_freq": 0, "claim_severity_mu": 6, "claim_severity_sig": 1,
             "cat_prob": 0.1, "cat_mu": 9, "cat_sig": 1},
    "seed": {"mode": "derived"},
}
ETA = {
    "op": {**MC, "profile": "eta.v1"},
    "args": {"iterations": 2000, "base_eta": 12.5, "traffic_mean": 8.0, "traffic_std": 3.0,
             "weather_prob": 0.3, "weather_mean": 4.0, "weather_std": 2.5,
             "incident_prob": 0.05, "incident_mean": 20.0, "incident_std": 6.0},
    "seed": {"mode": "derived"},
}
ETA_REQUIRED_ONLY = {
    "op": {**MC, "profile": "eta.v1"},
    "args": {"iterations": 1000, "base_eta": 30, "traffic_mean": 1.0, "traffic_std": 2.0},
    "seed": {"mode": "explicit", "value": "Δρόμος 🚦 nach Zürich"},
}


def changed(envelope: dict[str, Any], **args: Any) -> dict[str, Any]:
    """An envelope with some args replaced or added."""
    out = copy.deepcopy(envelope)
    out["args"].update(args)
    return out


ENVELOPES: dict[str, dict[str, Any]] = {
    "insurance_quickstart": QUICKSTART,
    "insurance_required_only": REQUIRED_ONLY,
    "insurance_limits": LIMITS,
    "insurance_wide": WIDE,
    "insurance_saturated": SATURATED,
    "insurance_no_claims": NO_CLAIMS,
    "eta_all": ETA,
    "eta_required_only": ETA_REQUIRED_ONLY,
}


# --- Sections 2 and 3
# ----------------------------------------------------------------------------------------------

ARGS_TEXTS: list[tuple[str, str, str, dict[str, str]]] = [
    ("quickstart", "insurance.v1", json.dumps(QUICKSTART["args"]), QUICKSTART["seed"]),
    ("quickstart derived", "insurance.v1", json.dumps(QUICKSTART["args"]), {"mode": "derived"}),
    ("other iterations, same derived root", "insurance.v1", json.dumps({**QUICKSTART["args"], "iterations": 7}),
     {"mode": "derived"}),
    ("number spellings", "insurance.v1",
     '{"iterations": 1e3, "claim_severity_sig": 10e-1, "claim_severity_mu": -0.0, "claim_freq": 20E-1}',
     {"mode": "derived"}),
    ("null is absent", "insurance.v1",
     '{"iterations": 1000, "claim_severity_sig": 1, "claim_severity_mu": 0, "claim_freq": 2, "cat_prob": null,'
     ' "cat_mu": null, "cat_sig": null, "policy_limit": null, "aggregate_limit": null, "convergence": null}',
     {"mode": "derived"}),
    ("more digits than binary64 holds", "insurance.v1",
     '{"iterations": 1000.000, "claim_freq": 0.1000000000000000055511151231257827, "claim_severity_mu":'
     ' 6.000000000000000444089209850062616169452667236328126, "claim_severity_sig": 0.30000000000000004}',
     {"mode": "derived"}),
    ("small and large numbers", "insurance.v1",
     '{"iterations": 1000000000000, "claim_freq": 0.0000001, "claim_severity_mu": 1.5e-7, "claim_severity_sig":'
     ' 0.000001, "policy_limit": 123456789012.5, "aggregate_limit": 10000000000000}', {"mode": "derived"}),
    ("convergence with defaults", "insurance.v1",
     '{"iterations": 1000000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1,'
     ' "convergence": {"relative_half_width": 0.01, "metric": "mean"}}', {"mode": "derived"}),
    ("convergence in full", "insurance.v1",
     '{"iterations": 1000000, "claim_freq": 2, "claim_severity_mu": 6, "claim_severity_sig": 1, "convergence":'
     ' {"metric": "tvar", "level": 0.99, "relative_half_width": 0.02, "confidence": 0.9, "min_iterations": 1e5,'
     ' "stable_checkpoints": 3}}', {"mode": "derived"}),
    ("explicit, not ASCII", "insurance.v1", json.dumps(REQUIRED_ONLY["args"]),
     {"mode": "explicit", "value": "Überschwemmung 洪水 🌊"}),
    ("explicit, escapes", "insurance.v1", json.dumps(REQUIRED_ONLY["args"]),
     {"mode": "explicit", "value": "tab\t quote\" backslash\\ slash/ newline\n bell\u0007 delete\u007f line\u2028"}),
    ("eta", "eta.v1", json.dumps(ETA["args"]), {"mode": "derived"}),
    ("eta required only", "eta.v1", json.dumps(ETA_REQUIRED_ONLY["args"]), {"mode": "derived"}),
]
LEAVES = [0, 1, 2, 65_535, 0x12345678, 2**31, 2**32 - 1]
SHARDS = [(0, 0), (0, 1), (0, 65_535), (1, 0), (1, 1), (4, 3), (7, 123_456), (16, 1), (16, 65_535), (31, 1), (32, 0)]


# --- Section 4
# --------------------------------------------------------------------------------------------------

# From J. Strömbergson, Test Vectors for the Stream Cipher ChaCha
# (draft-strombergson-chacha-test-vectors-01): 8 rounds, key of 256 bits; TC1 (two blocks), TC2, TC3
# (two blocks), TC4.
KNOWN_ANSWERS = [
    ("00" * 32, "00" * 8,
     "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e"
     "984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42"
     "d2aefa0deaa5c151bf0adb6c01f2a5adc0fd581259f9a2aadcf20f8fd566a26b"
     "5032ec38bbc5da98ee0c6f568b872a65a08abf251deb21bb4b56e5d8821e68aa"),
    ("01" + "00" * 31, "00" * 8,
     "cf5ee9a0494aa9613e05d5ed725b804b12f4a465ee635acc3a311de8740489ea"
     "289d04f43c7518db56eb4433e498a1238cd8464d3763ddbb9222ee3bd8fae3c8"),
    ("00" * 32, "01" + "00" * 7,
     "2b8f4bb3798306ca5130d47c4f8d4ed13aa0edccc1be6942090faeeca0d7599b"
     "7ff0fe616bb25aa0153ad6fdc88b954903c22426d478b97b22b8f9b1db00cf06"
     "470bdffbc488a8b7c701ebf4061d75c5969186497c95367809afa80bd843b040"
     "a79abc6e73a91757f1db73c8eacfa543b38f289d065ab2f3032d377b8c37fe46"),
    ("ff" * 32, "ff" * 8,
     "e163bbf8c9a739d18925ee8362dad2cdc973df05225afb2aa26396f2a9849a4a"
     "445e0547d31c1623c537df4ba85c70a9884a35bcbf3dfab077e98b0f68135f54"),
]


# --- Section 5
# --------------------------------------------------------------------------------------------------

LAWS: list[tuple[dict[str, Any], int]] = [
    *(({"law": "lognormal", "mu": mu, "sigma": sigma, "units": 100}, 7) for mu, sigma in (
        (6.0, 0.1), (6.0, 1.0), (10.0, 1.5), (-1.0, 2.5), (6.5, 3.0), (8.0, 4.0), (6.0, 5.0), (20.0, 5.0))),
    ({"law": "lognormal", "mu": 6.0, "sigma": 1.0, "units": 100}, 6),
    ({"law": "lognormal", "mu": 0.0, "sigma": 4.0, "units": 100}, 6),
    ({"law": "normal", "mean": 8.0, "deviation": 3.0, "units": 1000}, 6),
    ({"law": "normal", "mean": 1.0, "deviation": 2.0, "units": 1000}, 6),
    ({"law": "normal", "mean": 1234.5678, "deviation": 0.001, "units": 1000}, 6),
]


# --- Section 9
# --------------------------------------------------------------------------------------------------


def spread(label: str, count: int, top: int, times: int) -> list[tuple[int, int]]:
    """Distinct pseudo-random amounts below top, denser towards 0, each up to `times` times."""
    found: dict[int, int] = {}
    for x in pseudo_random(label, count):
        fraction = x % 1_000_003
        found[top * fraction * fraction // 1_000_003**2] = 1 + (x >> 32) % times
    return sorted(found.items())


SYNTHETIC: list[tuple[str, list[int], list[tuple[int, int]]]] = [
    ("one amount", [], [(123_456, 1)]),
    ("one amount, often", [], [(5_000_000, 777)]),
    ("zeros", [], [(0, 1000)]),
    ("zeros and one", [], [(0, 999), (100_003, 1)]),
    ("small amounts", [], [(i, 1 + i % 3) for i in range(0, 200, 7)]),
    ("wide", [], spread("wide", 60, 10**9, 50)),
    ("at MAX", [], [(0, 3), (10**15 + 1, 2), (programs.MAX - 1, 1), (programs.MAX, 4)]),
    ("mark at the top", [250_000], spread("top", 25, 249_000, 9) + [(250_000, 60)]),
    ("mark within a bucket", [50_005, 120_017],
     [(50_000, 3), (50_005, 40), (50_013, 4), (50_017, 2), (120_000, 1), (120_017, 11), (120_063, 5)]),
    ("three marks in one bucket", [2**40 + 10**6, 2**40 + 2 * 10**6, 2**40 + 2 * 10**8],
     [(2**40 - 5, 4), (2**40 + 3, 7), (2**40 + 10**6, 50), (2**40 + 1_500_000, 3), (2**40 + 2 * 10**6, 20),
      (2**40 + 2 * 10**8, 9), (2**40 + 9 * 10**8, 13)]),
    ("mark not reached", [70_000], [(60_000, 10), (69_990, 5), (70_010, 5)]),
    ("mark at the minimum", [2050, 9000], [(2050, 12), (2051, 3), (8000, 2), (9000, 1)]),
    ("an atom that is no mark", [], [(0, 9000), (2**40 + 1, 999), (2**40 + 2**30 - 1, 1)]),
    ("the same atom as a mark", [2**40 + 1], [(0, 9000), (2**40 + 1, 999), (2**40 + 2**30 - 1, 1)]),
    ("counts beyond 2^53", [10**6], [(1, 2**53 + 1), (3_333, 2**54 + 12_345), (777_777, 10**12 + 7), (10**6, 10**9)]),
]
LEVELS = [(500, 1000), (900, 1000), (950, 1000), (990, 1000), (995, 1000), (999, 1000),
          (1, 2), (4, 5), (249, 250), (999, 1000), (990_000, 10**6), (999_999, 10**6), (1, 10**6)]


# --- Section 10
# --------------------------------------------------------------------------------------------------

CONVERGENCE_CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("mean, at once", 400_000, {"metric": "mean", "relative_half_width": 0.05}),
    ("mean, minimum of iterations", 400_000, {"metric": "mean", "relative_half_width": 0.05,
                                              "min_iterations": 131_073}),
    ("mean, later", 1_000_000, {"metric": "mean", "relative_half_width": 0.008}),
    ("mean, never", 400_000, {"metric": "mean", "relative_half_width": 1e-6}),
    ("no checkpoint", 65_535, {"metric": "mean", "relative_half_width": 0.5}),
    ("no checkpoint above the minimum", 400_000, {"metric": "mean", "relative_half_width": 0.5,
                                                  "min_iterations": 400_000}),
    ("var", 1_000_000, {"metric": "var", "level": 0.999, "relative_half_width": 0.02, "confidence": 0.99}),
    ("var, a rank is missing", 200_000, {"metric": "var", "level": 0.999999, "relative_half_width": 0.9}),
    ("tvar", 1_000_000, {"metric": "tvar", "level": 0.99, "relative_half_width": 0.011, "confidence": 0.9}),
    ("tvar, low level", 1_000_000, {"metric": "tvar", "level": 0.5, "relative_half_width": 0.0055}),
    ("variance, one stable checkpoint", 1_000_000, {"metric": "tvar", "level": 0.999, "relative_half_width": 0.008,
                                                    "stable_checkpoints": 1}),
    ("variance, two stable checkpoints", 1_000_000, {"metric": "mean", "relative_half_width": 0.003,
                                                     "stable_checkpoints": 2}),
    ("variance, three stable checkpoints in a row", 1_000_000, {"metric": "mean", "relative_half_width": 0.003,
                                                                "stable_checkpoints": 3}),
    ("variance, only checkpoints from the minimum on count", 1_000_000,
     {"metric": "mean", "relative_half_width": 0.003, "stable_checkpoints": 1, "min_iterations": 327_680}),
]

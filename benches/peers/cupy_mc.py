#!/usr/bin/env python3
"""The insurance quickstart written by hand in CuPy, vectorised, on one NVIDIA GPU.

    python3 -m venv /tmp/cupy && /tmp/cupy/bin/pip install cupy-cuda12x
    /tmp/cupy/bin/python benches/peers/cupy_mc.py --iterations 1000000000 --claims 2.0

Prints the median rate of all batches but the first, in M iterations/s, and the mean loss, which shows
that the model is the same. Compare with `forge bench --backend gpu` on the same GPU.
"""

import argparse
import statistics
import time

import cupy as cp

MU, SIGMA = 6.0, 1.0
CAT_PROB, CAT_MU, CAT_SIGMA = 0.02, 10.0, 1.5
POLICY_LIMIT, AGGREGATE_LIMIT = 50_000.0, 250_000.0
# Approximate number of claims per batch: with its temporary arrays, a batch fits in 8 GB.
CLAIMS_PER_BATCH = 40_000_000


def simulate(rng, years, claims, edges):
    """Returns the sum of the annual losses, and the histograms of annual and largest losses."""
    counts = rng.poisson(claims, years)
    losses = cp.minimum(rng.lognormal(MU, SIGMA, int(counts.sum())), POLICY_LIMIT)
    # cp.repeat does not accept an array of counts. The year of a claim is the number of years that
    # end before it.
    claim_years = cp.searchsorted(cp.cumsum(counts), cp.arange(losses.size), side="right")
    totals = cp.bincount(claim_years, weights=losses, minlength=years)
    largest = cp.zeros(years)
    cp.maximum.at(largest, claim_years, losses)
    catastrophe_years = cp.flatnonzero(rng.random(years) < CAT_PROB)
    catastrophes = rng.lognormal(CAT_MU, CAT_SIGMA, catastrophe_years.size)
    totals[catastrophe_years] += catastrophes
    largest[catastrophe_years] = cp.maximum(largest[catastrophe_years], catastrophes)
    totals, largest = cp.minimum(totals, AGGREGATE_LIMIT), cp.minimum(largest, AGGREGATE_LIMIT)
    return totals.sum(), cp.histogram(totals, edges)[0], cp.histogram(largest, edges)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=1_000_000_000)
    parser.add_argument("--claims", type=float, default=2.0)
    args = parser.parse_args()
    rng = cp.random.RandomState(1)
    edges = cp.concatenate([cp.zeros(1), cp.geomspace(0.01, AGGREGATE_LIMIT, 20_000)])
    batch_years = max(1, int(CLAIMS_PER_BATCH / max(args.claims, 1.0)))
    rates, total, completed = [], 0.0, 0
    while completed < args.iterations or len(rates) < 3:
        start = time.perf_counter()
        losses, _, _ = simulate(rng, batch_years, args.claims, edges)
        total += float(losses)
        cp.cuda.Stream.null.synchronize()
        rates.append(batch_years / (time.perf_counter() - start) / 1e6)
        completed += batch_years
    name = cp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    rate = statistics.median(rates[1:])
    print(f"CuPy {cp.__version__} on {name}: {rate:.1f} M iterations/s, mean loss {total / completed:.2f}")


if __name__ == "__main__":
    main()

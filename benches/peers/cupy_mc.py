#!/usr/bin/env python3
"""The insurance quickstart in CuPy, vectorised as one would write it by hand, on one NVIDIA card.

    python3 -m venv /tmp/cupy && /tmp/cupy/bin/pip install cupy-cuda12x
    /tmp/cupy/bin/python benches/peers/cupy_mc.py --iterations 1000000000 --claims 2.0

Prints M iterations a second, of batches after the first, and the mean loss, so that one sees that it is the same model. Run it
beside `forge bench --backend gpu`, on the same card.
"""

import argparse
import statistics
import time

import cupy as cp

MU, SIGMA = 6.0, 1.0
CAT_PROB, CAT_MU, CAT_SIGMA = 0.02, 10.0, 1.5
POLICY_LIMIT, AGGREGATE_LIMIT = 50_000.0, 250_000.0
# Draws of claims in a batch, about: what fits a card of 8 GB with its temporaries.
CLAIMS_IN_BATCH = 40_000_000


def simulate(rng, years, claims, edges):
    """Sum of annual losses, and histograms of the annual loss and of the largest loss, of so many years."""
    counts = rng.poisson(claims, years)
    losses = cp.minimum(rng.lognormal(MU, SIGMA, int(counts.sum())), POLICY_LIMIT)
    # cp.repeat takes no array of counts: the year of a claim is how many years end before it.
    of_year = cp.searchsorted(cp.cumsum(counts), cp.arange(losses.size), side="right")
    totals = cp.bincount(of_year, weights=losses, minlength=years)
    largest = cp.zeros(years)
    cp.maximum.at(largest, of_year, losses)
    struck = cp.flatnonzero(rng.random(years) < CAT_PROB)
    catastrophes = rng.lognormal(CAT_MU, CAT_SIGMA, struck.size)
    totals[struck] += catastrophes
    largest[struck] = cp.maximum(largest[struck], catastrophes)
    totals, largest = cp.minimum(totals, AGGREGATE_LIMIT), cp.minimum(largest, AGGREGATE_LIMIT)
    return totals.sum(), cp.histogram(totals, edges)[0], cp.histogram(largest, edges)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=1_000_000_000)
    parser.add_argument("--claims", type=float, default=2.0)
    args = parser.parse_args()
    rng = cp.random.RandomState(1)
    edges = cp.concatenate([cp.zeros(1), cp.geomspace(0.01, AGGREGATE_LIMIT, 20_000)])
    batch = max(1, int(CLAIMS_IN_BATCH / max(args.claims, 1.0)))
    rates, total, done = [], 0.0, 0
    while done < args.iterations or len(rates) < 3:
        start = time.perf_counter()
        losses, _, _ = simulate(rng, batch, args.claims, edges)
        total += float(losses)
        cp.cuda.Stream.null.synchronize()
        rates.append(batch / (time.perf_counter() - start) / 1e6)
        done += batch
    name = cp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    rate = statistics.median(rates[1:])
    print(f"CuPy {cp.__version__} on {name}: {rate:.1f} M iterations/s, mean loss {total / done:.2f}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The insurance quickstart written by hand in NumPy, run on Ray and on Dask.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benches/peers/requirements.txt
    /tmp/peers/bin/python benches/peers/ray_dask.py --iterations 100000000 --workers 2

Prints the rate of each framework in M iterations/s, without its start-up, and the mean loss, which shows
that the model is the same. Compare with `cargo bench -p forge-cluster-tests -- throughput` on the same
machine.
"""

import argparse
import time

import numpy as np

BATCH = 1_000_000
FREQ, MU, SIGMA = 2.0, 6.0, 1.0
CAT_PROB, CAT_MU, CAT_SIGMA = 0.02, 10.0, 1.5
POLICY_LIMIT, AGGREGATE_LIMIT = 50_000.0, 250_000.0
EDGES = np.concatenate([[0.0], np.geomspace(0.01, AGGREGATE_LIMIT, 20_000)])


def simulate(seed, years):
    """Returns the sum of the annual losses, and their histogram."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = rng.poisson(FREQ, years)
    losses = np.minimum(rng.lognormal(MU, SIGMA, counts.sum()), POLICY_LIMIT)
    totals = np.bincount(np.repeat(np.arange(years), counts), weights=losses, minlength=years)
    catastrophe_years = np.flatnonzero(rng.random(years) < CAT_PROB)
    totals[catastrophe_years] += rng.lognormal(CAT_MU, CAT_SIGMA, catastrophe_years.size)
    totals = np.minimum(totals, AGGREGATE_LIMIT)
    return totals.sum(), np.histogram(totals, EDGES)[0]


def split_into_batches(iterations):
    """Returns the seed and the number of years of each batch."""
    return [(seed, min(BATCH, iterations - start)) for seed, start in enumerate(range(0, iterations, BATCH))]


def merge(results):
    total, histogram = 0.0, 0
    for batch_total, counts in results:
        total, histogram = total + batch_total, histogram + counts
    return total, histogram


def run_on_ray(iterations, workers):
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    task = ray.remote(simulate)
    # Start every worker before timing.
    ray.get([task.remote(10**6 + i, 1000) for i in range(workers)])
    start = time.perf_counter()
    total, _ = merge(ray.get([task.remote(seed, years) for seed, years in split_into_batches(iterations)]))
    elapsed = time.perf_counter() - start
    ray.shutdown()
    return elapsed, total


def run_on_dask(iterations, workers):
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        # Start every worker before timing.
        client.gather([client.submit(simulate, 10**6 + i, 1000) for i in range(workers)])
        start = time.perf_counter()
        futures = [client.submit(simulate, seed, years, pure=False) for seed, years in split_into_batches(iterations)]
        total, _ = merge(client.gather(futures))
        return time.perf_counter() - start, total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    for name, run in [("Ray", run_on_ray), ("Dask", run_on_dask)]:
        elapsed, total = run(arguments.iterations, arguments.workers)
        rate = arguments.iterations / elapsed / 1e6
        print(f"{name}: {rate:.1f} M iterations/s, {elapsed:.1f} s, mean loss {total / arguments.iterations:,.2f}", flush=True)


if __name__ == "__main__":
    main()

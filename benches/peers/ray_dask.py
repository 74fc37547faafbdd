#!/usr/bin/env python3
"""The insurance quickstart in NumPy on Ray and on Dask, as one would write it by hand.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benches/peers/requirements.txt
    /tmp/peers/bin/python benches/peers/ray_dask.py --iterations 100000000 --workers 2

Prints M iterations a second of each, start-up of the framework not counted, and the mean loss, so that one sees that it is
the same model. Run it beside `cargo bench -p forge-cluster-tests -- throughput`, on the same machine.
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
    """Sum of annual losses and their histogram, of so many years."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = rng.poisson(FREQ, years)
    losses = np.minimum(rng.lognormal(MU, SIGMA, counts.sum()), POLICY_LIMIT)
    totals = np.bincount(np.repeat(np.arange(years), counts), weights=losses, minlength=years)
    struck = np.flatnonzero(rng.random(years) < CAT_PROB)
    totals[struck] += rng.lognormal(CAT_MU, CAT_SIGMA, struck.size)
    totals = np.minimum(totals, AGGREGATE_LIMIT)
    return totals.sum(), np.histogram(totals, EDGES)[0]


def batches(iterations):
    return [(seed, min(BATCH, iterations - start)) for seed, start in enumerate(range(0, iterations, BATCH))]


def merged(results):
    total, histogram = 0.0, 0
    for part, counts in results:
        total, histogram = total + part, histogram + counts
    return total, histogram


def on_ray(iterations, workers):
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    task = ray.remote(simulate)
    ray.get([task.remote(10**6 + i, 1000) for i in range(workers)])
    start = time.perf_counter()
    total, _ = merged(ray.get([task.remote(seed, years) for seed, years in batches(iterations)]))
    elapsed = time.perf_counter() - start
    ray.shutdown()
    return elapsed, total


def on_dask(iterations, workers):
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather([client.submit(simulate, 10**6 + i, 1000) for i in range(workers)])
        start = time.perf_counter()
        futures = [client.submit(simulate, seed, years, pure=False) for seed, years in batches(iterations)]
        total, _ = merged(client.gather(futures))
        return time.perf_counter() - start, total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    for name, run in [("Ray", on_ray), ("Dask", on_dask)]:
        elapsed, total = run(arguments.iterations, arguments.workers)
        rate = arguments.iterations / elapsed / 1e6
        print(f"{name}: {rate:.1f} M iterations/s, {elapsed:.1f} s, mean loss {total / arguments.iterations:,.2f}", flush=True)


if __name__ == "__main__":
    main()

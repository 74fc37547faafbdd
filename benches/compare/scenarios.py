"""What is measured: each function takes a cluster and returns figures by name."""

import statistics

LEAF = 65_536
LATENCY_JOBS = 40
SHARDS = 1000
PARALLEL_JOBS = 10
PARALLEL_SHARDS = 300
SUBMISSIONS = 200
CONCURRENT_REQUESTS = 16


def envelope(job, shards, **policy):
    """A job of one-leaf shards that take about a quarter of a millisecond each."""
    job = job.replace(" ", "-")
    return {
        "ctx": {"job_id": job},
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": shards * LEAF, "claim_freq": 0.1, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0},
        "policy": policy,
        "seed": {"mode": "explicit", "value": job},
        "artifacts": {"include": ["result_json", "executions_json", "verification_json"]},
    }


async def warm_up(cluster, name):
    for verify in ("none", "full"):
        await cluster.run_jobs([envelope(f"warm-up-{name}-{verify}-{i}", 4, verify=verify) for i in range(10)])


async def latency(cluster, name):
    """Milliseconds from submission to the completed record of a one-shard job, one at a time."""
    figures = {}
    for verify in ("none", "spotcheck"):
        traffic = cluster.traffic()
        times = [
            await cluster.run_jobs([envelope(f"latency-{name}-{verify}-{i}", 1, verify=verify)]) * 1e3
            for i in range(LATENCY_JOBS)
        ]
        figures[f"latency, {name}, verify {verify}: median, ms"] = statistics.median(times)
        figures[f"latency, {name}, verify {verify}: 90%, ms"] = statistics.quantiles(times, n=10)[8]
        messages, size = (after - before for after, before in zip(cluster.traffic(), traffic))
        figures[f"latency, {name}, verify {verify}: messages per job"] = messages / LATENCY_JOBS
        figures[f"latency, {name}, verify {verify}: kB per job"] = size / LATENCY_JOBS / 1e3
    return figures


async def throughput(cluster):
    """Rates of a job with many small shards, of jobs in parallel, and their costs per shard."""
    figures = {}
    for verify in ("none", "spotcheck"):
        traffic, cpu = cluster.traffic(), cluster.cpu_seconds()
        seconds = await cluster.run_jobs([envelope(f"shards-{verify}", SHARDS, verify=verify)])
        messages, size = (after - before for after, before in zip(cluster.traffic(), traffic))
        title = f"one job of {SHARDS} shards, verify {verify}"
        figures[f"{title}: shards/s"] = SHARDS / seconds
        figures[f"{title}: M iterations/s"] = SHARDS * LEAF / seconds / 1e6
        figures[f"{title}: messages per shard"] = messages / SHARDS
        figures[f"{title}: kB per shard"] = size / SHARDS / 1e3
        for service, spent in cluster.cpu_seconds().items():
            figures[f"{title}: CPU of {service} per shard, µs"] = (spent - cpu[service]) / SHARDS * 1e6
    for verify in ("none", "spotcheck"):
        jobs = [envelope(f"parallel-{verify}-{i}", PARALLEL_SHARDS, verify=verify) for i in range(PARALLEL_JOBS)]
        seconds = await cluster.run_jobs(jobs)
        title = f"{PARALLEL_JOBS} jobs of {PARALLEL_SHARDS} shards, verify {verify}"
        figures[f"{title}: shards/s"] = PARALLEL_JOBS * PARALLEL_SHARDS / seconds
        figures[f"{title}: M iterations/s"] = PARALLEL_JOBS * PARALLEL_SHARDS * LEAF / seconds / 1e6
    return figures


async def submissions(cluster):
    """Rates of one-shard jobs submitted to the API."""
    jobs = [envelope(f"submission-{i}", 1) for i in range(SUBMISSIONS)]
    replied, completed = await cluster.submit_by_api(jobs, CONCURRENT_REQUESTS)
    return {
        "submissions by API: accepted jobs/s": SUBMISSIONS / replied,
        "submissions by API: completed jobs/s": SUBMISSIONS / completed,
    }


async def measure(cluster):
    """All figures of one cluster."""
    figures = {}
    cluster.add_worker(1)
    await warm_up(cluster, "1")
    figures |= await latency(cluster, "1 worker")
    cluster.add_worker(2)
    await warm_up(cluster, "2")
    figures |= await latency(cluster, "2 workers")
    figures |= await throughput(cluster)
    figures |= await submissions(cluster)
    figures["aggregator, largest resident size: MiB"] = cluster.peak_mib("aggregator")
    return figures

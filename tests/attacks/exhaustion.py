"""Attacks on what all jobs share: memory, storage, queues, slots. See cases.py."""

import asyncio
import hashlib
import json
import time

from cluster import POOL, SERVICES, Worker, insurance, require, with_second_pool
from messages import Key, heartbeat, made_up_task, result_subject, signed_result, unsigned, wide_shard_result

# Small streams, so that filling one takes seconds: 112 MiB for results, 2 MiB for heartbeats.
SMALL_STORAGE = {"FORGE_STORAGE_MIB": "256"}


async def expect_small_job(cluster, name, seconds=45, **policy):
    """Requires that a small job of another submitter completes in time."""
    envelope = insurance(name, 100_000, policy)
    await asyncio.to_thread(cluster.submit, envelope)
    return await asyncio.to_thread(cluster.expect_correct, envelope, seconds)


async def gigabytes_of_heartbeats(make_cluster):
    """A worker fills the memory of planner and aggregator with heartbeats of workers that it invents."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        await expect_small_job(cluster, "before")
        worker = await Worker(cluster).open()
        before = {service: cluster.memory(service) for service in SERVICES}
        key = Key()
        refused = await worker.request(f"$KV.forge_workers.{POOL}.{key.id}", heartbeat(key, host="h" * 1_000_000))
        require("error" in refused, f"a heartbeat of 1 MB is stored: {refused}")
        capacity = {"slots": 2**32 - 1, "batch": 2**32 - 1, "host": "h" * 7000}
        for number in range(20_000):
            key = Key()
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{key.id}", heartbeat(key, **capacity))
            if number % 500 == 0:
                await worker.flush()
        await worker.flush()
        stored = (await cluster.stream_state("KV_forge_workers"))["bytes"]
        require(stored <= 32 << 20, f"{stored} bytes of heartbeats are stored")
        await expect_small_job(cluster, "during", min_agents=1)
        cluster.restart("planner")
        await expect_small_job(cluster, "after-restart", min_agents=1)
        for service in SERVICES:
            grown = cluster.memory(service) - before[service]
            require(grown < 150, f"{service} has grown by {grown} MiB")


async def results_of_a_running_job_fill_the_storage(make_cluster):
    """A worker fills the storage of results below the uid of a job that runs, so that nothing purges
    them, and no job gets its results.
    """
    with make_cluster(environment=SMALL_STORAGE) as cluster:
        cluster.start(*SERVICES)
        victim = insurance("victim", 4_000_000_000, {"verify": "none"}, claim_freq=20.0)
        uid = (await asyncio.to_thread(cluster.submit, victim))["uid"]
        worker = await Worker(cluster).open()
        received, deadline = [], time.monotonic() + 40
        # The honest worker waits at the queue too.
        while not received:
            require(time.monotonic() < deadline, "there is no shard to take")
            received = await worker.pull()
        task = received[0][0]
        require(task["job_uid"] == uid, f"a shard of another job: {task}")
        headers = {"Forge-Test": "x"}
        for number in range(240):
            planned, invented = {**task, "shard_id": f"6-{number}"}, made_up_task(uid, f"0-{number}")
            # A shard that the worker has, one of the plan, and one outside of it.
            subject = result_subject(POOL, (task, planned, invented)[number % 3])
            payload = unsigned(task, POOL, bytes(700_000))
            await worker.connection.publish(subject, payload, headers=headers if number % 2 else None)
            await worker.flush()
        await expect_small_job(cluster, "small", 60)
        deadline = time.monotonic() + 30
        while (state := await cluster.stream_state("FORGE_RESULTS"))["bytes"] > 50 << 20:
            require(time.monotonic() < deadline, f"left in FORGE_RESULTS: {state}")
            await asyncio.sleep(0.5)
        require(cluster.record("victim")["state"] == "running", f"the victim: {cluster.record('victim')}")
        done = cluster.run("cancel", "victim")
        require(done.returncode == 0, f"the victim cannot be cancelled: {done.stderr}")


async def job_whose_results_do_not_fit(make_cluster):
    """The results of one job would fill the stream of results, where they stay until the job ends. The
    job gets no further shards when it has four fifths of the stream, and others complete beside it.
    """
    # A shard that is delivered twice has two results, of which the aggregator removes one.
    environment = {**SMALL_STORAGE, "FORGE_LEASE_MS": "60000"}
    with make_cluster(with_second_pool(make_cluster.configuration), environment) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        # Its worker could be an honest one: it fills the stream with accepted results.
        worker, key = await Worker(cluster, ("workers-any-long",)).open(), Key()
        model = {"claim_freq": 9000.0, "claim_severity_mu": 0.0, "claim_severity_sig": 0.1}
        large = insurance("large", 2000 * 262_144, {"verify": "none"}, **model)
        await asyncio.to_thread(cluster.submit, large)
        deadline, result, received = time.monotonic() + 60, None, True
        while received or not result:
            require(time.monotonic() < deadline, "the job gets shards without end")
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{key.id}", heartbeat(key, slots=256))
            received = await worker.pull(batch=64, seconds=3)
            for task, reply in received:
                await worker.settle(reply)
                components = await worker.count_components(task["program"])
                result = result or wide_shard_result(task["iterations"], components)
                answer = await worker.request(result_subject(POOL, task), signed_result(key, task, POOL, result))
                require("error" not in answer, f"a result is refused: {answer}")
        stored = (await cluster.stream_state("FORGE_RESULTS"))["bytes"] >> 20
        require(80 <= stored <= 95, f"{stored} MiB of 112 are stored")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        await expect_small_job(cluster, "small", 60)
        while "FORGE_RESULTS" not in (cluster.record("large").get("waiting") or ""):
            require(time.monotonic() < deadline + 60, f"it does not say why it waits: {cluster.record('large')}")
            await asyncio.sleep(0.5)
        done = cluster.run("cancel", "large")
        require(done.returncode == 0, f"the job cannot be cancelled: {done.stderr}")
        await expect_small_job(cluster, "later", 60)


async def largest_submissions(make_cluster):
    """A client publishes submissions of 1 MB that are no envelopes, four times as much as their stream
    holds. A planner refuses each by a short record and removes it, so that others still submit.
    """
    with make_cluster(environment=SMALL_STORAGE) as cluster:
        cluster.start(*SERVICES)
        client = await cluster.connect("client")

        def largest(number):
            profile, keys = insurance(f"long-{number}", 1000), insurance(f"keys-{number}", 1000)
            profile["op"]["profile"] = "p" * 900_000
            keys |= {f"{key}" + "\x01" * 2000: 1 for key in range(70)}
            texts = [b"x" * 1_000_000, b"[" * 1_000_000, b'{"a":' * 200_000, b"\xff" * 1_000_000]
            texts = [text + str(number).encode() for text in texts]
            return texts + [json.dumps(profile).encode(), json.dumps(keys).encode()]

        for number in range(10):
            for text in largest(number):
                await client.publish("forge.v1.jobs.submit", text)
                await client.flush()
        await expect_small_job(cluster, "small", 60)
        # One of each kind, as soon as there is space.
        texts = largest(10)
        deadline = time.monotonic() + 60
        for text in texts:
            while "error" in json.loads((await client.request("forge.v1.jobs.submit", text, timeout=5)).data):
                require(time.monotonic() < deadline, "a submission is never stored")
                await asyncio.sleep(0.2)
        names = [f"rejected-{hashlib.sha256(text).hexdigest()[:16]}" for text in texts[:4]] + ["long-10", "keys-10"]
        for name in names:
            record = await asyncio.to_thread(cluster.wait, name)
            require(record["error"]["code"] == "invalid_request", f"{name}: {record}")
            size = len(json.dumps(record))
            require(size < 80 << 10, f"the record of a refused submission takes {size} bytes")
        while (left := (await cluster.stream_state("FORGE_JOBS"))["messages"]) > 0:
            require(time.monotonic() < deadline, f"{left} refused submissions are kept")
            await asyncio.sleep(0.2)
        records = await cluster.stream_state("KV_jobs")
        require(records["messages"] > 2 * len(names), f"the flood was not stored: {records['messages']} records")
        require(records["bytes"] < records["messages"] * (80 << 10), f"the records take {records['bytes']} bytes")
        require(cluster.memory("planner") < 400, f"the planner takes {cluster.memory('planner')} MiB")


async def giant_jobs(make_cluster):
    """A client submits 12 jobs of 1.9 million shards, and 12 of 110,000: memory of planner and
    aggregator.
    """
    with make_cluster() as cluster:
        # Without a worker: its processors are not what is attacked.
        cluster.start("planner", "aggregator", "verifier")
        model = {"claim_freq": 9000.0, "claim_severity_mu": 0.0, "claim_severity_sig": 0.1}
        for number in range(12):
            largest = json.dumps(insurance(f"largest-{number}", 2**52 // 9100, **model))
            done = cluster.run("submit", "-", input=largest)
            answer = f"{done.stdout}{done.stderr}{cluster.record(f'largest-{number}')}"
            require("FORGE_JOB_MEMORY_MIB" in answer, f"a job of 1.9 million shards is not refused: {answer}")
        giants = [insurance(f"giant-{number}", 2**52 // 9100 // 17, **model) for number in range(12)]
        for giant in giants:
            await asyncio.to_thread(cluster.submit, giant)
        deadline = time.monotonic() + 30
        while (queued := (await cluster.stream_state("FORGE_SHARDS"))["messages"]) < len(giants):
            require(time.monotonic() < deadline, f"only {queued} shards are dispatched")
            await asyncio.sleep(0.2)
        for service in ("planner", "aggregator"):
            require(cluster.memory(service) < 1000, f"{service} takes {cluster.memory(service)} MiB")
        for giant in giants:
            done = cluster.run("cancel", giant["ctx"]["job_id"])
            require(done.returncode == 0, f"a giant cannot be cancelled: {done.stderr}")
        for giant in giants:
            record = await asyncio.to_thread(cluster.wait, giant["ctx"]["job_id"], 20)
            require(record["state"] == "cancelled", f"a giant ended as {record['state']}")
        await asyncio.to_thread(cluster.start, "worker")
        await expect_small_job(cluster, "small", 60)


async def thousands_of_pull_requests(make_cluster):
    """A worker waits at the queue with more requests than it holds, and keeps every shard."""
    with make_cluster(with_second_pool(make_cluster.configuration)) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        worker = await Worker(cluster).open()
        request = json.dumps({"batch": 1, "expires": int(100e9)}).encode()
        for queue in ("workers-any", "workers-cpu"):
            for number in range(12_000):
                subject = f"$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.{queue}"
                await worker.connection.publish(subject, request, reply=f"{worker.inbox}.{number}")
            await worker.flush()
        await expect_small_job(cluster, "small", 100, verify="none")


async def shards_renewed_for_ever(make_cluster):
    """A worker takes all shards that it gets, renews their leases without end, and returns nothing."""
    environment = {"FORGE_SHARD_PATIENCE_MS": "2000"}
    with make_cluster(with_second_pool(make_cluster.configuration), environment) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        worker = await Worker(cluster).open()
        held = []

        async def take():
            while True:
                held.extend(reply for _, reply in await worker.pull(batch=256, seconds=0.3))

        async def renew():
            while True:
                for reply in held:
                    await worker.settle(reply, b"+WPI")
                await worker.flush()
                await asyncio.sleep(0.5)

        tasks = [asyncio.create_task(take()), asyncio.create_task(renew())]
        envelope = insurance("kept", 2_000_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        require(held, "the attack took no shard")
        for task in tasks:
            task.cancel()


async def settlements_of_shards_that_others_hold(make_cluster):
    """A worker acknowledges, terminates, refuses and delays shards that a worker of another pool
    holds, by subjects that it makes up. NATS permits it, because all pools share a queue. What the
    holder does not return is executed again.
    """
    environment = {"FORGE_SHARD_PATIENCE_MS": "3000"}
    words = [b"+ACK", b"+TERM", b"-NAK", b'-NAK {"delay": 9000000000000000000}', b"+WPI"]
    with make_cluster(with_second_pool(make_cluster.configuration), environment) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        attacker, holders = await Worker(cluster).open(), await cluster.connect("worker-b")
        # Jobs with a live worker stay with their planner, which alone knows what is overdue.
        key = Key()

        async def live():
            while True:
                await holders.publish(f"$KV.forge_workers.b.{key.id}", heartbeat(key, pool="b"))
                await asyncio.sleep(1)

        living = asyncio.create_task(live())
        envelopes = []
        for number, word in enumerate(words):
            envelope = insurance(f"settled-{number}", 300_000, {"verify": "none"})
            envelopes.append(envelope)
            await asyncio.to_thread(cluster.submit, envelope)
            holder = await Worker(cluster, user="worker-b", pool="b").open()
            require(await holder.pull(batch=8, seconds=1), "there is no shard to hold")
            before = await cluster.queue_state()
            delivered = before["delivered"]
            for sequence in range(before["ack_floor"]["stream_seq"] + 1, delivered["stream_seq"] + 1):
                for delivery in range(max(1, sequence - 2), delivered["consumer_seq"] + 1):
                    subject = f"$JS.ACK.FORGE_SHARDS.workers-any.1.{sequence}.{delivery}.1.0"
                    await attacker.connection.publish(subject, word)
            await attacker.flush()
            # The holder leaves without a result.
            await holder.connection.close()
            if word in (b"+ACK", b"+TERM"):
                after = (await cluster.queue_state())["num_ack_pending"]
                require(after < before["num_ack_pending"], f"{word} settles nothing: describe that NATS refuses it")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        for envelope in envelopes:
            await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        living.cancel()


async def settlements_without_end(make_cluster):
    """The same without a pause, while an honest worker executes a job."""
    environment = {"FORGE_SHARD_PATIENCE_MS": "3000"}
    with make_cluster(with_second_pool(make_cluster.configuration), environment) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        attacker = await Worker(cluster).open()

        async def settle():
            while True:
                for word in (b"-NAK", b"+TERM", b"+ACK"):
                    for sequence in range(1, 400):
                        for delivery in range(max(1, sequence - 1), sequence + 2):
                            subject = f"$JS.ACK.FORGE_SHARDS.workers-any.1.{sequence}.{delivery}.1.0"
                            await attacker.connection.publish(subject, word)
                    await attacker.flush()
                    await asyncio.sleep(0.05)

        settling = asyncio.create_task(settle())
        envelope = insurance("settled", 8_000_000, {"verify": "none"}, claim_freq=5.0)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope, 90)
        settling.cancel()


async def nearly_all_shards_withheld(make_cluster):
    """A worker has hundreds of pull requests, gets nearly every shard, and renews their leases."""
    with make_cluster(environment={"FORGE_SHARD_PATIENCE_MS": "20000"}) as cluster:
        cluster.start(*SERVICES)
        worker, taken = await Worker(cluster).open(), []
        request = json.dumps({"batch": 64, "expires": int(600e9)}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.{worker.queues[0]}"
        for number in range(200):
            await worker.connection.publish(subject, request, reply=f"{worker.inbox}.{number}")
        await worker.flush()

        async def take():
            while True:
                message = await worker.replies.next_msg(timeout=None)
                if message.reply.startswith("$JS.ACK"):
                    taken.append(message.reply)

        async def renew():
            while True:
                for reply in taken:
                    await worker.settle(reply, b"+WPI")
                await worker.flush()
                await asyncio.sleep(0.5)

        thieves = [asyncio.create_task(take()), asyncio.create_task(renew())]
        envelope = insurance("withheld", 1_500_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        # A patience of 20 s for each shard would take minutes.
        await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        require(taken, "the attack took no shard")
        for thief in thieves:
            thief.cancel()


async def connections_and_subscriptions_without_end(make_cluster):
    """A worker uses up connections, or memory for subscriptions of 1 kB each, of the server."""
    text = make_cluster.configuration
    limits = "max_connections: 8192, max_subscriptions: 131072"
    require(text.count(limits) == 2, "clients and workers do not have the limits that this case lowers")
    lowered = text.replace(limits, "max_connections: 60, max_subscriptions: 500")
    with make_cluster(lowered) as cluster:
        cluster.start("planner", "worker")
        worker = await cluster.connect("worker")
        for number in range(1000):
            await worker.subscribe(f"_INBOX_worker.{number}")
        deadline = time.monotonic() + 10
        while "maximum subscriptions exceeded" not in cluster.log("nats"):
            require(time.monotonic() < deadline, "no limit of subscriptions")
            await asyncio.sleep(0.1)
        connections = []
        try:
            for _ in range(100):
                connections.append(await asyncio.wait_for(cluster.connect("worker", retry=False), 5))
        except Exception:
            pass
        require(len(connections) < 60, f"{len(connections)} connections of workers")
        # Services and clients still connect.
        cluster.start("aggregator", "verifier")
        envelope = insurance("beside", 100_000)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope)


ALL = [
    gigabytes_of_heartbeats,
    results_of_a_running_job_fill_the_storage,
    job_whose_results_do_not_fit,
    largest_submissions,
    giant_jobs,
    thousands_of_pull_requests,
    shards_renewed_for_ever,
    nearly_all_shards_withheld,
    connections_and_subscriptions_without_end,
    settlements_of_shards_that_others_hold,
    settlements_without_end,
]

"""Attacks by what a worker says about its work, itself and jobs, and by names that a client chooses.
See cases.py.
"""

import asyncio
import hashlib
import json
import os
import time

from cluster import POOL, SERVICES, Worker, insurance, require, with_second_pool
from messages import Key, attestation, frame, heartbeat, result_subject, shard_result, signed_result, statement

# Honest workers keep their leases: a redelivery would look like a shard that was stopped.
LONG_LEASES = {"FORGE_LEASE_MS": "30000"}


async def ends_of_jobs_forged_by_replies(make_cluster):
    """A worker has replies of JetStream delivered to other workers as notices that a job has ended, so
    that they stop its shards.
    """
    with make_cluster(with_second_pool(make_cluster.configuration), LONG_LEASES) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        witness, notices = await cluster.connect("worker-b"), []

        async def note(message):
            notices.append(message.subject)

        await witness.subscribe("forge.v1.ended.*", cb=note)
        await witness.flush()
        envelope = insurance("ended", 4_000_000, {"verify": "none"}, claim_freq=20.0)
        uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
        worker = await Worker(cluster).open()
        request = json.dumps({"batch": 1, "no_wait": True}).encode()
        end = f"forge.v1.ended.{uid}"

        async def forge_ends():
            while True:
                # The replies: nothing is queued, and a result is stored.
                subject = "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-cpu"
                await worker.connection.publish(subject, request, reply=end)
                await worker.connection.publish(f"forge.v1.results.{POOL}.x.0-0", b"x", reply=end)
                await worker.flush()
                await asyncio.sleep(0.02)

        forging = asyncio.create_task(forge_ends())
        record = await asyncio.to_thread(cluster.expect_correct, envelope, 90)
        forging.cancel()
        require(notices.count(end) > 10, "no notice arrives: describe that NATS refuses it")
        executions = cluster.document(record, "executions.json")["executions"]
        of_verifiers = [execution["shard_id"] for execution in executions if execution["pool"] != "b"]
        require(not of_verifiers, f"workers were stopped: verifiers executed {of_verifiers}")
        require("redelivered" not in cluster.log("worker-b"), "shards were stopped, and delivered again")


async def claims_that_results_are_too_large(make_cluster):
    """A worker claims of each shard that its result is too large for a message, so that the job
    fails for that.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        worker, claimed = await Worker(cluster).open(), []

        async def claim():
            while True:
                for task, reply in await worker.pull(batch=64, seconds=0.3):
                    key = Key()
                    hashes = {"result_hash": os.urandom(32).hex()}
                    payload = frame(attestation(key, statement(key, task, POOL, b"", **hashes)), b"")
                    await worker.connection.publish(result_subject(POOL, task), payload)
                    await worker.settle(reply)
                    claimed.append(task["shard_id"])
                await worker.flush()

        async def live():
            key = Key()
            while True:
                await worker.connection.publish(f"$KV.forge_workers.{POOL}.{key.id}", heartbeat(key))
                await asyncio.sleep(1)

        # Without a live worker jobs wait.
        tasks = [asyncio.create_task(claim()), asyncio.create_task(live())]
        envelopes = [insurance(f"large-{verify}", 600_000, {"verify": verify}) for verify in ("none", "full")]
        for envelope in envelopes:
            await asyncio.to_thread(cluster.submit, envelope)
        for envelope in envelopes:
            await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        require(claimed, "the attack made no claim")
        for task in tasks:
            task.cancel()


async def tasks_and_keys_of_others(make_cluster):
    """A worker answers a shard under the task of another shard, with another's attestation, and for
    shards outside the plan under a task that was issued. It lies under a key that it also uses in
    another pool.
    """
    with make_cluster(with_second_pool(make_cluster.configuration)) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("swapped", 1_000_000, {"verify": "full"})
        await asyncio.to_thread(cluster.submit, envelope)
        worker = await Worker(cluster).open()
        received = await worker.pull(batch=4, seconds=2)
        require(len(received) > 1, f"{len(received)} shards")
        tasks = [task for task, _ in received]
        for task, other in zip(tasks, tasks[1:] + tasks[:1]):
            components = await worker.count_components(task["program"])
            lie = shard_result(task["iterations"], components)
            # The statement names this shard and the task of the other one.
            swapped = {**task, "task_id": other["task_id"]}
            await worker.connection.publish(result_subject(POOL, task), signed_result(Key(), swapped, POOL, lie))
            # A validly signed result of the other shard, under this shard's subject.
            await worker.connection.publish(result_subject(POOL, task), signed_result(Key(), other, POOL, lie))
            for shard in ("0-99999", "31-0", "20-1"):
                outside = {**task, "shard_id": shard}
                await worker.connection.publish(result_subject(POOL, outside), signed_result(Key(), outside, POOL, lie))
            # Stated for the pool of the honest workers.
            await worker.connection.publish(result_subject(POOL, task), signed_result(Key(), task, "b", lie))
        # One lie under a key that is in use in both pools.
        shared = Key()
        await worker.lie(tasks[0], shared)
        other_pool = await Worker(cluster, user="worker-b", pool="b").open()
        await other_pool.lie(tasks[1], shared)
        for _, reply in received:
            await worker.settle(reply, b"-NAK")
        await worker.flush()
        await other_pool.flush()
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        record = await asyncio.to_thread(cluster.expect_correct, envelope)
        require(cluster.is_running("worker-b"), "the honest worker is in quarantine")
        refuted = cluster.document(record, "verification.json")["refuted"]
        keys = {verdict["statement"]["agent_id"] for verdict in refuted}
        require(keys <= {shared.id}, f"refuted: {keys}")


async def thousands_of_keys(make_cluster):
    """A worker returns each of 4,300 shards under a key of its own, to make lists of agents grow. The
    results of 4,096 keys of a pool are examined.
    """
    with make_cluster(with_second_pool(make_cluster.configuration)) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        worker, waiting = await Worker(cluster, ("workers-any-long",)).open(), Key()

        async def live():
            while True:
                capacity = {"slots": 8192, "batch": 1}
                await worker.connection.publish(f"$KV.forge_workers.{POOL}.{waiting.id}", heartbeat(waiting, **capacity))
                await asyncio.sleep(1)

        living = asyncio.create_task(live())
        model = {"claim_freq": 9000.0, "claim_severity_mu": 0.0, "claim_severity_sig": 0.1}
        envelope = insurance("keys", 4300 * 262_144, {"verify": "none"}, **model)
        await asyncio.to_thread(cluster.submit, envelope)
        shards, before = cluster.record("keys")["progress"]["shards"], cluster.memory("aggregator")
        require(shards >= 4300, f"only {shards} shards")
        returned = 0
        while returned < 4300:
            received = await worker.pull(batch=256, seconds=2)
            require(received, f"only {returned} shards arrive")
            for task, reply in received:
                await worker.lie(task, Key(), amount=returned % 5)
                await worker.settle(reply)
                returned += 1
            await worker.flush()
        deadline = time.monotonic() + 60
        while "too many agents of the pool" not in cluster.log("aggregator"):
            require(time.monotonic() < deadline, f"all keys are examined: {cluster.record('keys')['progress']}")
            await asyncio.sleep(0.2)
        accepted = cluster.record("keys")["progress"]["shards_done"]
        require(accepted <= 4096, f"results of {accepted} keys are accepted")
        grown = cluster.memory("aggregator") - before
        require(grown < 200, f"the aggregator has grown by {grown} MiB")
        living.cancel()
        # Another pool is not affected.
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        beside = insurance("beside", 100_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, beside)
        await asyncio.to_thread(cluster.expect_correct, beside, 60)


async def name_of_a_refused_submission(make_cluster):
    """A client gives a job the name under which a submission that will be refused is recorded. That
    submission then has no record of its own; its submitter learns of the refusal from the API.
    """
    junk = b'{"junk": 1}'
    name = f"rejected-{hashlib.sha256(junk).hexdigest()[:16]}"
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        squatter = insurance(name, 100_000)
        await asyncio.to_thread(cluster.submit, squatter)
        client = await cluster.connect("client")
        await client.publish("forge.v1.jobs.submit", junk)
        reply = await client.request("forge.v1.api.submit", junk, timeout=10)
        require(reply.headers["Nats-Service-Error-Code"] == "400", f"not refused: {reply.headers}")
        await asyncio.to_thread(cluster.expect_correct, squatter)
        deadline = time.monotonic() + 20
        while (waiting := (await cluster.stream_state("FORGE_JOBS"))["messages"]) > 0:
            require(time.monotonic() < deadline, f"{waiting} submissions are tried without end")
            await asyncio.sleep(0.2)


ALL = [
    ends_of_jobs_forged_by_replies,
    claims_that_results_are_too_large,
    tasks_and_keys_of_others,
    thousands_of_keys,
    name_of_a_refused_submission,
]

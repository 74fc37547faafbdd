"""The attacks. Each has the credential of one role, and fails if the role achieves what it tries.

A case is a coroutine that takes a function which makes a cluster. Its docstring says what is tried.
"""

import asyncio
import hashlib
import json
import os
import time

from cluster import POOL, SERVICES, Worker, insurance, lie_about_every_shard, require, with_second_pool
from messages import (
    Key,
    attestation,
    frame,
    made_up_task,
    result_subject,
    shard_result,
    signed_result,
    statement,
    unsigned,
)


async def _lie_under_new_keys(make_cluster, verify):
    with make_cluster(with_second_pool(make_cluster.configuration)) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        told = []
        liar = asyncio.create_task(lie_about_every_shard(cluster, told))
        await asyncio.sleep(0.5)
        envelope = insurance("sybil", 4_000_000, {"verify": verify})
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.sleep(2)
        await asyncio.to_thread(cluster.start_worker, "worker-b", "b")
        record = await asyncio.to_thread(cluster.expect_correct, envelope, 45)
        liar.cancel()
        verification = cluster.document(record, "verification.json")
        require(told, "the attack told no lie")
        require(verification["suspect_pools"] == [POOL], f"suspect pools: {verification['suspect_pools']}")
        require(verification["refuted"], "no result was refuted")
        require(cluster.is_running("worker-b"), "the honest worker is in quarantine")
        executions = cluster.document(record, "executions.json")["executions"]
        wrong = [execution["shard_id"] for execution in executions if execution["pool"] == POOL]
        require(not wrong, f"lies in the result: {wrong}")


async def new_key_per_shard_at_spotcheck(make_cluster):
    """A worker signs every lie with a new key, so that quarantine catches one lie a key."""
    await _lie_under_new_keys(make_cluster, "spotcheck")


async def new_key_per_shard_at_full(make_cluster):
    """The same where every shard is verified."""
    await _lie_under_new_keys(make_cluster, "full")


async def nonsense_for_a_shard_in_flight(make_cluster):
    """A worker answers a shard with unsigned nonsense each time it is handed out, to end the job."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()
        envelope = insurance("nonsense", 8_000_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        for task, reply in await worker.pull():
            await worker.settle(reply, b"-NAK")
            for _ in range(200):
                await worker.connection.publish(result_subject(POOL, task), unsigned(task, POOL))
                await worker.flush()
                await asyncio.sleep(0.01)
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def result_outside_the_plan(make_cluster):
    """One unsigned result for a shard that is not in the plan stalls a job with convergence."""
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        convergence = {"metric": "mean", "relative_half_width": 0.006}
        envelope = insurance("outside", 200_000_000, {"verify": "none"}, convergence=convergence)
        uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
        worker = await Worker(cluster).open()
        for shard in ("0-8", "9-0", "0-1048576"):
            task = made_up_task(uid, shard)
            await worker.connection.publish(result_subject(POOL, task), unsigned(task, POOL))
        await worker.flush()
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def thousands_of_contradictions(make_cluster):
    """2,000 contradictions of one accepted result cost the verifier 4,000 executions."""
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("contradicted", 600_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        worker = await Worker(cluster).open()
        # Tasks of shards that are returned to the queue and answered by an honest worker.
        received = await worker.pull(batch=2)
        for _, reply in received[:1]:
            await worker.settle(reply, b"-NAK")
        before = (await cluster.stream_state("FORGE_DUPLICATES"))["last_seq"]
        await asyncio.to_thread(cluster.start, "worker")
        deadline = time.monotonic() + 20
        while cluster.record("contradicted")["progress"]["shards_done"] == 0:
            require(time.monotonic() < deadline, "the honest worker returns nothing")
            await asyncio.sleep(0.05)
        task = received[0][0]
        for number in range(2000):
            await worker.lie(task, amount=number + 1)
        await worker.flush()
        record = await asyncio.to_thread(cluster.wait, "contradicted")
        require(record["state"] == "completed", f"the job ended as {record}")
        after = (await cluster.stream_state("FORGE_DUPLICATES"))["last_seq"]
        # Two claims of the shard, and then every shard of the suspect pool.
        bound = 2 * record["progress"]["shards"] + 4
        require(after - before <= bound, f"{after - before} verifications, more than {bound}")


async def refused_deliveries(make_cluster):
    """A worker refuses every shard, as often as it gets it, to use up its deliveries."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()

        async def refuse():
            while True:
                for _, reply in await worker.pull(batch=32, seconds=0.5):
                    await worker.settle(reply, b"-NAK")
                await worker.flush()

        refusing = asyncio.create_task(refuse())
        envelopes = [insurance(f"refused-{number}", 1_000_000, {"verify": "full"}) for number in range(3)]
        for envelope in envelopes:
            await asyncio.to_thread(cluster.submit, envelope)
        for envelope in envelopes:
            await asyncio.to_thread(cluster.expect_correct, envelope)
        refusing.cancel()


async def results_of_jobs_that_do_not_exist(make_cluster):
    """A worker fills the storage of JetStream with results of jobs that do not exist."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()
        for number in range(60):
            task = made_up_task(os.urandom(16).hex(), "0-0")
            await worker.connection.publish(result_subject(POOL, task), b"x" * 500_000)
            await worker.flush()
        envelope = insurance("beside", 500_000)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope)
        deadline = time.monotonic() + 90
        while (state := await cluster.stream_state("FORGE_RESULTS"))["messages"] > 0:
            require(time.monotonic() < deadline, f"left in FORGE_RESULTS: {state}")
            await asyncio.sleep(0.5)


async def results_of_another_pool(make_cluster):
    """A worker publishes results and heartbeats in the name of another pool."""
    with make_cluster() as cluster:
        cluster.start("planner")
        worker = await Worker(cluster).open()
        task = made_up_task(os.urandom(16).hex(), "0-0")
        subjects = [result_subject("another", task), result_subject("verifiers", task)]
        subjects += [f"$KV.forge_workers.another.{Key().id}", f"$KV.forge_agents.workers.{Key().id}"]
        for subject in subjects:
            worker.connection.errors.clear()
            await worker.connection.publish(subject, b"{}")
            await worker.flush()
            await asyncio.sleep(0.1)
            require(worker.connection.errors, f"the server does not refuse {subject}")


async def one_job_id_in_two_namespaces(make_cluster):
    """A submitter uses one job id in two namespaces, so that results of one job count in the other."""
    text = make_cluster.configuration
    second = "\n".join(
        line
        + (
            "\n" + line.replace("KV_jobs", "KV_other").replace("$KV.jobs", "$KV.other")
            if ("KV_jobs" in line or "$KV.jobs" in line) and not line.strip().startswith("#")
            else ""
        )
        for line in text.splitlines()
    )
    with make_cluster(second, {"FORGE_KV_NAMESPACES": "jobs,other"}) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        first = insurance("same", 4_000_000, {"verify": "full"}, seed="one")
        other = insurance("same", 4_000_000, {"verify": "full"}, seed="two")
        other["artifacts"]["kv_namespace"] = "other"
        await asyncio.to_thread(cluster.submit, first)
        payload = json.dumps(other).encode()
        client = await cluster.connect("client")
        await client.request("forge.v1.jobs.submit", payload, timeout=5)
        rejected = f"rejected-{hashlib.sha256(payload).hexdigest()[:16]}"
        record = await asyncio.to_thread(cluster.wait, rejected)
        require(record["error"]["code"] == "conflict", f"not refused: {record}")
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, first)
        require(cluster.is_running("worker"), "the honest worker is in quarantine")


async def counts_that_json_cannot_state(make_cluster):
    """A result with a count beyond 2^53 ends the aggregator each time it reads it. So would many
    results whose counts add up to more. A shard may have as many occurrences as decoding allows, and
    in a large run as keep the sum of all shards exact.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        worker = await Worker(cluster).open()

        async def lie_until_rejected(envelope, occurrences, reason):
            await asyncio.to_thread(cluster.submit, envelope)
            received = await worker.pull(batch=2)
            require(received, "there is no shard to take")
            for task, reply in received:
                await worker.lie(task, occurrences=occurrences)
                await worker.settle(reply)
            await worker.flush()
            deadline = time.monotonic() + 20
            while cluster.log("aggregator").count(reason) < len(received):
                accepted = cluster.record(envelope["ctx"]["job_id"])["progress"]["shards_done"]
                require(accepted == 0, f"{accepted} shards with {occurrences} occurrences are accepted")
                require(time.monotonic() < deadline, cluster.log("aggregator")[-2000:])
                await asyncio.sleep(0.1)

        # 4,096 shards of 2^28 iterations. Decoding allows each 2^43 occurrences.
        large = insurance("large", 2**40, {"verify": "none"}, claim_freq=0.1)
        await lie_until_rejected(large, 2**42, "occurrences, but a shard of this run has at most")
        done = cluster.run("cancel", "large")
        require(done.returncode == 0, f"the job cannot be cancelled: {done.stderr}")
        huge = insurance("huge", 600_000, {"verify": "none"})
        await lie_until_rejected(huge, 2**60, "there are more occurrences than the iterations can have")
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, huge)
        require("panic" not in cluster.log("aggregator"), cluster.log("aggregator")[-2000:])


async def result_of_another_hand_out(make_cluster):
    """A worker replays a validly signed result under task ids that it made up."""
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("replayed", 600_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        worker = await Worker(cluster).open()
        for task, reply in await worker.pull(batch=4):
            components = await worker.count_components(task["program"])
            lie = shard_result(task["iterations"], components)
            payload = signed_result(Key(), {**task, "task_id": os.urandom(32).hex()}, POOL, lie)
            await worker.connection.publish(result_subject(POOL, task), payload)
            await worker.settle(reply, b"-NAK")
        await worker.flush()
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def messages_of_another_version(make_cluster):
    """Results of another protocol version, and results that are cut off or have headers."""
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("versions", 600_000, {"verify": "full"})
        await asyncio.to_thread(cluster.submit, envelope)
        worker = await Worker(cluster).open()
        for task, reply in await worker.pull(batch=2):
            subject = result_subject(POOL, task)
            key, result = Key(), b"x"
            newer = {**attestation(key, statement(key, task, POOL, result)), "protocol": 2}
            whole = frame(newer, result)
            for payload in (whole, whole[:3], whole[:40], b"", b"\xff\xff\xff\xff{}"):
                await worker.connection.publish(subject, payload)
            await worker.connection.publish(subject, whole, headers={"Forge-Attestation": "{}"})
            await worker.settle(reply, b"-NAK")
        await worker.flush()
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def flood_of_bogus_results(make_cluster):
    """20,000 unsigned results of one job delay all other jobs."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        victim = insurance("victim", 40_000_000, {"verify": "none"}, claim_freq=20.0)
        uid = (await asyncio.to_thread(cluster.submit, victim))["uid"]
        worker = await Worker(cluster).open()
        payloads = [(task, unsigned(task, POOL, b"")) for task in (made_up_task(uid, f"0-{n}") for n in range(100))]
        for number in range(20_000):
            task, payload = payloads[number % 100]
            await worker.connection.publish(result_subject(POOL, task), payload)
            if number % 1000 == 0:
                await worker.flush()
        await worker.flush()
        small = insurance("small", 100_000)
        await asyncio.to_thread(cluster.submit, small)
        await asyncio.to_thread(cluster.expect_correct, small, 30)
        done = cluster.run("cancel", "victim")
        require(done.returncode == 0, f"the victim cannot be cancelled: {done.stderr}")


ALL = [
    new_key_per_shard_at_spotcheck,
    new_key_per_shard_at_full,
    nonsense_for_a_shard_in_flight,
    result_outside_the_plan,
    thousands_of_contradictions,
    refused_deliveries,
    results_of_jobs_that_do_not_exist,
    results_of_another_pool,
    one_job_id_in_two_namespaces,
    counts_that_json_cannot_state,
    result_of_another_hand_out,
    messages_of_another_version,
    flood_of_bogus_results,
]

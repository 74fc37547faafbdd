"""Attacks that make jobs wait or fail without a wrong result: kept tasks, contradictions without a
verifier, memory, floods of verdicts. See cases.py.
"""

import asyncio
import json
import os
import time

from cluster import POOL, SERVICES, Worker, insurance, require
from messages import Key, heartbeat, made_up_task, result_subject, unsigned, verdict


async def tasks_kept_from_many_planners(make_cluster):
    """A worker keeps the tasks that seven planners in turn hand out for one shard, and then answers
    all of them with nonsense, so that the shard fails as often as a job allows.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        worker, tasks, key = await Worker(cluster).open(), {}, Key()

        async def live():
            while True:
                await worker.connection.publish(f"$KV.forge_workers.{POOL}.{key.id}", heartbeat(key))
                await asyncio.sleep(1)

        living = asyncio.create_task(live())
        envelope = insurance("kept", 50_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        for _ in range(7):
            received = []
            while not received:
                received = await worker.pull(seconds=5)
            for task, reply in received:
                tasks[task["task_id"]] = task
                await worker.settle(reply)
            await worker.flush()
            await asyncio.to_thread(cluster.restart, "planner")
        require(len(tasks) == 7, f"{len(tasks)} tasks instead of 7")
        for task in tasks.values():
            await worker.connection.publish(result_subject(POOL, task), unsigned(task, POOL))
        await worker.flush()
        living.cancel()
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def contradiction_without_a_verifier(make_cluster):
    """A worker contradicts its own result of a job that asks for no verification, while no verifier
    is there. The job needs one then, and its record says so.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "worker")
        envelopes = []
        for name, timeout in (("waiting", 0), ("expiring", 20_000)):
            cluster.stop("worker")
            envelope = insurance(name, 200_000, {"verify": "none", "timeout_ms": timeout})
            envelopes.append(envelope)
            uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
            worker = await Worker(cluster).open()
            received = []
            while not any(task["job_uid"] == uid for task, _ in received):
                received += await worker.pull(seconds=2)
            for amount in (1, 2):
                await worker.lie(received[-1][0], amount=amount)
            for _, reply in received:
                await worker.settle(reply, b"-NAK")
            await worker.connection.close()
            await asyncio.to_thread(cluster.start, "worker")
        deadline = time.monotonic() + 40
        while "wait for a verifier" not in cluster.record("waiting").get("waiting", ""):
            require(time.monotonic() < deadline, f"the record does not say so: {cluster.record('waiting')}")
            await asyncio.sleep(0.2)
        expired = await asyncio.to_thread(cluster.wait, "expiring", 40)
        reason = expired.get("error", {}).get("message", "")
        require("wait for a verifier" in reason, f"the record does not say so: {expired}")
        await asyncio.to_thread(cluster.start, "verifier")
        await asyncio.to_thread(cluster.expect_correct, envelopes[0])


async def large_jobs_wait_in_line(make_cluster):
    """A client submits jobs that each take most of the memory for jobs, so that all but one wait for
    it, and small jobs behind them.
    """
    with make_cluster(environment={"FORGE_JOB_MEMORY_MIB": "64"}) as cluster:
        cluster.start("planner", "aggregator", "verifier")
        model = {"claim_freq": 9000.0, "claim_severity_mu": 0.0, "claim_severity_sig": 0.1}
        for number in range(4):
            large = insurance(f"large-{number}", 2**52 // 9100 // 17 // 23, {"verify": "none"}, **model)
            await asyncio.to_thread(cluster.submit, large)
        deadline = time.monotonic() + 20
        while not any("memory" in cluster.record(f"large-{number}").get("waiting", "") for number in range(4)):
            require(time.monotonic() < deadline, f"no job waits for memory: {cluster.record('large-1')}")
            await asyncio.sleep(0.2)
        small = insurance("small", 50_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, small)
        # An aggregator that has taken the job says that it is running, after a period in which no
        # job queues for memory. The planner still says that it waits: for workers, there are none.
        deadline = time.monotonic() + 80
        while cluster.record("small").get("state") != "running":
            require(time.monotonic() < deadline, f"the small job waits: {cluster.record('small')}")
            await asyncio.sleep(0.2)
        require("memory" not in cluster.record("small").get("waiting", ""), "it runs and waits for memory")
        for number in range(4):
            done = cluster.run("cancel", f"large-{number}")
            require(done.returncode == 0, f"a large job cannot be cancelled: {done.stderr}")
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, small)


async def floods_of_verdicts(make_cluster):
    """A stolen credential of a verifier signs verdicts without end about a running job: about hashes
    that nobody has claimed, shards that were not drawn, and shards outside of the plan.
    """
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        victim = insurance("victim", 4_000_000_000, {"verify": "spotcheck"}, claim_freq=20.0)
        uid = (await asyncio.to_thread(cluster.submit, victim))["uid"]
        verifier, key = await cluster.connect("verifier"), Key()
        record = {"schema": "forge.agent.v1", "agent_id": key.id, "state": "live", "target": "any"}
        record |= {"backend": "scalar", "slots": 1, "batch": 1, "kernel": 1, "version": "0.1.0", "host": "x"}
        await verifier.publish(f"$KV.forge_agents.verifiers.{key.id}", json.dumps(record).encode())
        before = cluster.memory("aggregator")
        for number in range(30_000):
            shard = (f"6-{number % 64}", f"6-{number}", "31-0")[number % 3]
            outcome = ("confirmed", "refuted")[number % 2]
            payload = verdict(key, uid, shard, outcome, pool=f"invented-{number}")
            await verifier.publish(f"forge.v1.verdicts.{uid}.{shard}", payload)
            if number % 500 == 0:
                await verifier.flush()
        await verifier.flush()
        envelope = insurance("beside", 100_000)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        grown = cluster.memory("aggregator") - before
        require(grown < 200, f"the aggregator has grown by {grown} MiB")
        # A verifier can end a job by a verdict that says so, and by no other one.
        require(cluster.record("victim")["state"] == "running", f"the victim: {cluster.record('victim')}")
        done = cluster.run("cancel", "victim")
        require(done.returncode == 0, f"the victim cannot be cancelled: {done.stderr}")


async def polls_and_cancels_without_end(make_cluster):
    """A client polls records, cancels unknown jobs and lists jobs without end, on many connections."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        clients = [await cluster.connect("client") for _ in range(8)]
        served = []

        async def flood(client, number):
            while True:
                requests = [("status", b"unknown"), ("cancel", b"unknown"), ("list", b"{}"), ("status", b"\xff" * 100)]
                subject, payload = requests[number % len(requests)]
                await client.request(f"forge.v1.api.{subject}", payload, timeout=20)
                served.append(number)

        floods = [asyncio.create_task(flood(clients[n % 8], n)) for n in range(800)]
        await asyncio.sleep(3)
        envelopes = [insurance(f"beside-{number}", 100_000) for number in range(3)]
        for envelope in envelopes:
            await asyncio.to_thread(cluster.submit, envelope)
            await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        require(not any(task.done() for task in floods), "a request has no answer")
        for task in floods:
            task.cancel()
        require(len(served) > 800, f"only {len(served)} requests were answered")
        require(cluster.memory("planner") < 200, f"the planner takes {cluster.memory('planner')} MiB")


async def unreadable_dead_letters(make_cluster):
    """A stolen credential of a planner, and a worker that refuses every shard, fill the queue of
    dead letters with shards that no planner can read. It has eight places.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        planner = await cluster.connect("planner")
        unknown = made_up_task(os.urandom(16).hex(), "0-0")
        contents = [b"x", b"", b"{}", b'{"protocol": 2}', b"[" * 10_000, json.dumps(unknown).encode()]
        for number in range(24):
            subject = f"forge.v1.shards.any.{os.urandom(16).hex()}.0-0"
            await planner.publish(subject, contents[number % len(contents)])
        await planner.flush()
        worker = await Worker(cluster).open()
        envelope = insurance("refused", 100_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        request = json.dumps({"batch": 64, "expires": int(1e9)}).encode()
        for _ in range(12):
            subject = "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-any"
            await worker.connection.publish(subject, request, reply=f"{worker.inbox}.refuse")
            end = time.monotonic() + 1
            while time.monotonic() < end:
                try:
                    message = await worker.replies.next_msg(timeout=0.2)
                except asyncio.TimeoutError:
                    continue
                if message.reply.startswith("$JS.ACK"):
                    await worker.settle(message.reply, b"-NAK")
            await worker.flush()
        dead = (await cluster.stream_state("FORGE_DEAD_LETTERS"))["last_seq"]
        require(dead >= 24, f"only {dead} dead letters")
        # The queue does not deliver the refused shards to this worker: their dead letters make the
        # planner hand them to a verifier, long before they are overdue.
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


ALL = [
    tasks_kept_from_many_planners,
    contradiction_without_a_verifier,
    large_jobs_wait_in_line,
    unreadable_dead_letters,
    floods_of_verdicts,
    polls_and_cancels_without_end,
]

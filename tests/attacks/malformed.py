"""Attacks by the form of messages: subjects, headers, JSON, identities. See cases.py."""

import asyncio
import json
import os
import time

from cluster import (
    POOL,
    SERVICES,
    Worker,
    insurance,
    require,
    with_operator,
    with_submitter,
)
from messages import (
    Key,
    attestation,
    canonical,
    frame,
    heartbeat,
    made_up_task,
    result_subject,
    shard_result,
    statement,
)

# Numbers that readers of JSON round, refuse or cannot represent.
NUMBERS = ["-1", "9007199254740993", "18446744073709551615", "18446744073709551616", "1e400", "-1e400", "1.5"]


async def subjects_with_wildcards(make_cluster):
    """A worker publishes to subjects with the tokens `*` and `>`, which a stream stores literally.
    As the filter of a purge they match the results of everybody.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("purged", 2_000_000, {"verify": "none"})
        uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
        # An honest worker returns some results, and one shard is kept so that the job does not end.
        worker = await Worker(cluster).open()
        _, kept = (await worker.pull())[0]
        await asyncio.to_thread(cluster.start, "worker")
        own = f"forge.v1.results.{POOL}.{uid}.>"
        deadline = time.monotonic() + 30
        while len((await cluster.stream_state("FORGE_RESULTS", own)).get("subjects", {})) < 4:
            require(time.monotonic() < deadline, "the honest worker returns nothing")
            await worker.settle(kept, b"+WPI")
            await asyncio.sleep(0.2)
        cluster.stop("worker")
        honest = (await cluster.stream_state("FORGE_RESULTS", own))["subjects"]
        tokens = ["*.*", "*.>", "*.0-0", "x.*", f"{uid}.*", f"{uid}.>", f"{uid}.x", "a*b.c", "é.x"]
        for token in tokens:
            answer = await worker.request(f"forge.v1.results.{POOL}.{token}", b"x")
            require("error" not in answer, f"{token}: {answer}")
        for subject in (f"forge.v1.results.{POOL}.>", "forge.v1.results.*.x.0-0", f"forge.v1.results.{POOL}.x."):
            worker.connection.errors.clear()
            await worker.connection.publish(subject, b"x")
            await worker.flush()
            await asyncio.sleep(0.1)
            require(worker.connection.errors, f"the server does not refuse {subject}")
        for token in ("*", ">", "x", "a*b"):
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{token}", b"{}")
        deadline = time.monotonic() + 75
        while True:
            await worker.settle(kept, b"+WPI")
            left = (await cluster.stream_state("FORGE_RESULTS", ">")).get("subjects", {})
            lost = set(honest) - set(left)
            require(not lost, f"results of the honest worker are gone: {lost}")
            if set(left) == set(honest):
                break
            require(time.monotonic() < deadline, f"left in FORGE_RESULTS: {set(left) - set(honest)}")
            await asyncio.sleep(0.5)
        cluster.restart("aggregator", "planner")
        await worker.settle(kept, b"-NAK")
        await worker.flush()
        await asyncio.to_thread(cluster.restart, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)


async def entries_read_by_wildcard(make_cluster):
    """A worker reads entries of buckets whose keys it does not know. It gets the program that was
    stored last, and the latest quarantine, but no entry of any other bucket.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator")
        envelope = insurance("secret", 100_000)
        uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
        worker = await Worker(cluster).open()
        deadline = time.monotonic() + 20
        while (await cluster.stream_state("KV_forge_programs"))["messages"] == 0:
            require(time.monotonic() < deadline, "no program is stored")
            await asyncio.sleep(0.1)
        for token in ("*", ">"):
            subject = f"$JS.API.DIRECT.GET.KV_forge_programs.$KV.forge_programs.{token}"
            message = await worker.connection.request(subject, b"", timeout=5)
            require(message.data[:4] == b"FKPG", "nothing is read: describe that NATS refuses it")
            for body in ({"batch": 9}, {"multi_last": ["$KV.forge_programs.>"]}, {"seq": 1, "next_by_subj": ">"}):
                message = await worker.connection.request(subject, json.dumps(body).encode(), timeout=5)
                require(message.headers["Status"] == "408", f"{body} reads {message.headers}: not only the last")
        for bucket, key in (("secrets", f"jobs.{uid}"), ("secrets", "*"), ("secrets", ">"), ("quotas", "*"), ("workers", "*")):
            worker.connection.errors.clear()
            await worker.connection.publish(f"$JS.API.DIRECT.GET.KV_forge_{bucket}.$KV.forge_{bucket}.{key}", b"")
            await worker.flush()
            await asyncio.sleep(0.1)
            require(worker.connection.errors, f"the server does not refuse {key} of {bucket}")


async def headers_with_a_meaning_to_jetstream(make_cluster):
    """A worker asks JetStream to roll up, expire, schedule, count or copy messages."""
    headers = [
        {"Nats-Rollup": "all"},
        {"Nats-Rollup": "sub"},
        {"Nats-TTL": "1s"},
        {"Nats-TTL": "never"},
        {"Nats-Incr": "+1"},
        {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
        {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "forge.v1.verdicts.j.0-0"},
        {"Nats-Expected-Last-Subject-Sequence": "99"},
        {"Nats-Expected-Stream": "KV_jobs"},
    ]
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()
        for subject in (f"forge.v1.results.{POOL}.x.0-0", f"$KV.forge_workers.{POOL}.{Key().id}"):
            for header in headers:
                answer = await worker.request(subject, b"{}", header)
                require("error" in answer, f"{subject} {header}: {answer}")
        for destination in ("forge.v1.verdicts.x.0-0", "$KV.jobs.x", "forge.v1.outcomes.x", "_INBOX_planner.x"):
            worker.connection.errors.clear()
            await worker.connection.publish(
                f"forge.v1.results.{POOL}.x.0-0", b"x", headers={"Nats-Trace-Dest": destination}
            )
            await worker.flush()
            await asyncio.sleep(0.1)
            require(worker.connection.errors, f"the server sends a trace to {destination}")
        # These are stored, and have no effect.
        harmless = [
            {"KV-Operation": "PURGE"},
            {"Nats-Msg-Id": "x"},
            {"Status": "503"},
            {f"H{number}": "v" for number in range(5000)},
            {"X": "y" * 900_000},
            {"traceparent": "00-" + "f" * 32 + "-" + "e" * 16 + "-ff", "tracestate": "a=b," * 5000},
        ]
        envelope = insurance("beside", 4_000_000, {"verify": "full"})
        uid = (await asyncio.to_thread(cluster.submit, envelope))["uid"]
        for header in harmless:
            for subject in (f"forge.v1.results.{POOL}.{uid}.0-0", f"$KV.forge_workers.{POOL}.{Key().id}"):
                await worker.connection.publish(subject, b"{}", headers=header)
        client = await cluster.connect("client")
        for header in harmless:
            await client.publish("forge.v1.jobs.submit", b"{}", headers=header)
        await worker.flush()
        await client.flush()
        await asyncio.to_thread(cluster.expect_correct, envelope)


def _with_number(document, path, number):
    """JSON in which the field at `path` is a number that Python cannot write."""
    copy = json.loads(json.dumps(document))
    target = copy
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = "@@"
    return json.dumps(copy).replace('"@@"', number).encode()


def _framed(text, result):
    return len(text).to_bytes(4, "little") + text + result


async def hostile_json_in_results(make_cluster):
    """A worker returns shards that it holds with numbers beyond 2^53, negative or infinite, with
    duplicate keys, deep nesting, long texts and unknown fields.
    """
    with make_cluster() as cluster:
        cluster.start("planner", "aggregator", "verifier")
        envelope = insurance("numbers", 4_000_000, {"verify": "none"})
        await asyncio.to_thread(cluster.submit, envelope)
        worker = await Worker(cluster).open()
        for task, reply in await worker.pull(batch=4, seconds=2):
            key, components = Key(), await worker.count_components(task["program"])
            result = shard_result(task["iterations"], components)
            attested = attestation(key, statement(key, task, POOL, result))
            paths = [["protocol"], ["wall_us"], ["cpu_us"]]
            paths += [["statement", name] for name in ("protocol", "iterations", "kernel", "backend", "task_id")]
            texts = [_with_number(attested, path, number) for path in paths for number in NUMBERS]
            plain = json.dumps(attested)
            texts += [
                b'{"protocol": 1, ' + plain.encode()[1:],
                plain.replace('"wall_us"', '"wall_us": 1, "wall_us"').encode(),
                plain.replace('"statement": {', '"statement": {"pool": "b", ').encode(),
                plain.replace('"wall_us"', '"more": ' + "[" * 900 + "]" * 900 + ', "wall_us"').encode(),
                plain.replace("simd-avx2", "x" * 3000).encode(),
                plain.replace("simd-avx2", "\\u0000\\u001b[31m").encode(),
                b"null",
                b"[]",
                b"{}",
            ]
            for text in texts:
                await worker.connection.publish(result_subject(POOL, task), _framed(text, result))
                await worker.flush()
            # Validly signed, and impossible.
            for changes in ({"iterations": 2**63}, {"iterations": -1}, {"kernel": 2**32}, {"backend": "\u0000"}):
                stated = statement(key, task, POOL, result, **changes)
                await worker.connection.publish(result_subject(POOL, task), frame(attestation(key, stated), result))
            for occurrences in (2**53, 2**63, 2**64 - 1, 2**64):
                await worker.lie(task, key, occurrences=occurrences)
            await worker.settle(reply, b"-NAK")
        await worker.flush()
        await asyncio.to_thread(cluster.start, "worker")
        await asyncio.to_thread(cluster.expect_correct, envelope)
        for service in SERVICES:
            require("panicked" not in cluster.log(service), cluster.log(service)[-2000:])


async def hostile_heartbeats(make_cluster):
    """Heartbeats with impossible numbers, keys and nesting stop neither planners nor jobs."""
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()
        plain = json.loads(heartbeat(Key()))
        texts = [_with_number(plain, [name], number) for name in plain for number in NUMBERS]
        texts += [b"", b"null", b"[" * 8000, b"\xff\xfe", b'{"slots": 1, "slots": 2}']
        texts += [json.dumps({**plain, "slots": 2**32 - 1, "batch": 2**32 - 1}).encode()]
        names = ["x", "", "*", ">", "a.b", "U" * 56, "é", "-/_=", "x" * 4000]
        for text in texts:
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{Key().id}", text)
        for name in names:
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{name}", json.dumps(plain).encode())
        await worker.flush()
        envelope = insurance("beside", 1_000_000, {"verify": "full", "min_agents": 1})
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope)
        cluster.restart("planner")
        again = insurance("again", 1_000_000, {"verify": "full", "min_agents": 1})
        await asyncio.to_thread(cluster.submit, again)
        await asyncio.to_thread(cluster.expect_correct, again)


async def hostile_json_in_submissions(make_cluster):
    """A client submits envelopes with impossible numbers, duplicate keys, deep nesting and names
    that are patterns.
    """
    with make_cluster() as cluster:
        cluster.start(*SERVICES)
        client = await cluster.connect("client")
        plain = insurance("hostile", 1000, {"verify": "full"})
        paths = [["op", "version"], ["args", "iterations"], ["args", "claim_freq"], ["policy", "timeout_ms"]]
        paths += [["policy", "min_agents"], ["policy", "verify_ratio"], ["seed", "value"], ["ctx", "job_id"]]
        texts = [_with_number(plain, path, number) for path in paths for number in NUMBERS if number != "1.5"]
        for name in ("*", ">", "a.*", "a..b", ".", "", "a b", "../../x", "é", "x" * 5000, "a\u0000b"):
            texts.append(json.dumps({**plain, "ctx": {"job_id": name}}).encode())
            kept = {**plain["artifacts"], "kv_namespace": name}
            texts.append(json.dumps({**plain, "artifacts": kept}).encode())
        text = json.dumps(plain)
        texts += [
            text.replace('"iterations"', '"iterations": 5, "iterations"').encode(),
            text.replace('"seed"', '"seed": null, "seed"').encode(),
            text.replace('"policy": {', '"policy": {"x": ' + "[" * 100_000).encode(),
            text.replace('"iterations": 1000', '"iterations": ' + "9" * 100_000).encode(),
        ]
        replies = []
        for text in texts:
            await client.publish("forge.v1.jobs.submit", text)
            reply = await client.request("forge.v1.api.submit", text, timeout=10)
            replies.append((text[:200], reply.headers))
        accepted = [text for text, headers in replies if not headers]
        require(not accepted, f"accepted: {accepted}")
        envelope = insurance("beside", 500_000)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope, 60)
        require("panicked" not in cluster.log("planner"), cluster.log("planner")[-2000:])


async def list_of_agents_spoilt_by_a_worker(make_cluster):
    """A worker keeps an operator from listing agents, or shows itself as an agent of another pool."""
    with make_cluster(with_operator(make_cluster.configuration)) as cluster:
        cluster.start(*SERVICES)
        worker = await Worker(cluster).open()
        forged = heartbeat(Key(), pool="verifiers", host="forged")
        for key in ("*", ">", "x", "a*b", Key().id):
            await worker.connection.publish(f"$KV.forge_workers.{POOL}.{key}", forged)
        await worker.flush()
        deadline = time.monotonic() + 10
        roles = []
        while len(roles) < 3:
            require(time.monotonic() < deadline, f"only {roles} are listed")
            listed = cluster.run("agents", "--format", "json", role="operator")
            require(listed.returncode == 0, f"forge agents fails: {listed.stderr}")
            agents = [json.loads(line) for line in listed.stdout.splitlines()]
            require(all(agent["host"] != "forged" for agent in agents), f"forged: {agents}")
            roles = sorted(agent["role"] for agent in agents)
        require(roles == ["aggregator", "verifier", "worker"], f"agents: {roles}")


async def replies_stored_as_submissions_of_another(make_cluster):
    """A client has the reply to a request stored as a submission of another submitter. Only the
    submitter `default` can be made its target: it gets a record of a rejected submission, because no
    reply is an envelope.
    """
    with make_cluster(with_submitter(make_cluster.configuration, "alice")) as cluster:
        cluster.start(*SERVICES)
        envelope = insurance("mine", 100_000)
        await asyncio.to_thread(cluster.submit, envelope)
        await asyncio.to_thread(cluster.expect_correct, envelope)
        charged = (await cluster.stream_state("KV_forge_quotas", ">")).get("subjects", {})
        submissions = []
        for user, target in (("client", "forge.v1.jobs.submit.alice"), ("client-alice", "forge.v1.jobs.submit")):
            client = await cluster.connect(user)
            requests = [("api.status", b"mine"), ("api.status", b"unknown"), ("api.list", b"{}"), ("api.cancel", b"x")]
            before = (await cluster.stream_state("FORGE_JOBS"))["last_seq"]
            for endpoint, payload in requests:
                await client.publish(f"forge.v1.{endpoint}", payload, reply=target)
            await client.publish("$SRV.INFO", b"", reply=target)
            await client.flush()
            await asyncio.sleep(3)
            submissions.append((await cluster.stream_state("FORGE_JOBS"))["last_seq"] - before)
        require(submissions[0] == 0, f"{submissions[0]} submissions in the name of alice")
        require(submissions[1] > 0, "nothing is stored: describe that NATS prevents it")
        client = await cluster.connect("client")
        jobs = json.loads((await client.request("forge.v1.api.list", b"{}", timeout=5)).data)["jobs"]
        for job in jobs:
            is_rejected = job["job_id"].startswith("rejected-") and job["state"] == "failed"
            require(job["job_id"] == "mine" or is_rejected, f"a job of default: {job}")
        now_charged = (await cluster.stream_state("KV_forge_quotas", ">")).get("subjects", {})
        require(now_charged == charged, f"charged: {now_charged}")


async def decisions_forged_by_a_worker(make_cluster):
    """A worker publishes shards, outcomes, verdicts, dead letters and ends of jobs, takes shards from
    queues of others, and changes queues.
    """
    uid = os.urandom(16).hex()
    task = made_up_task(uid, "0-0")
    outcomes = [{"outcome": "undeliverable", "shard_id": "0-0", "task_id": task["task_id"]}]
    payload = canonical({"protocol": 1, "outcomes": outcomes})
    subjects = [
        f"forge.v1.outcomes.{uid}",
        f"forge.v1.verdicts.{uid}.0-0",
        *(f"forge.v1.{kind}.{uid}.0-0" for kind in ("duplicates", "duplicates-long", "shards.any", "shards.any-long")),
        *(f"$JS.API.CONSUMER.MSG.NEXT.FORGE_DUPLICATES.{queue}" for queue in ("verifiers", "verifiers-long")),
        *(f"$JS.API.CONSUMER.{change}.FORGE_SHARDS.workers-any-long" for change in ("DELETE", "PAUSE", "UNPIN")),
        "$JS.API.CONSUMER.CREATE.FORGE_SHARDS.workers-any-long.forge.v1.shards.any-long.>",
        "$JS.ACK.FORGE_DUPLICATES.verifiers-long.1.1.1.1.0",
        "$JS.FC.FORGE_SHARDS.workers-any-long.x",
        "forge.v1.nats.queue.verifiers-long",
        f"forge.v1.reduce.{uid}.end",
        f"forge.v1.ended.{uid}",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FORGE_SHARDS.workers-any",
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.FORGE_SHARDS.workers-any",
    ]
    with make_cluster() as cluster:
        cluster.start("planner")
        foreign = {"worker": ["workers-gpu", "workers-gpu-long"], "worker-gpu": ["workers-cpu", "workers-cpu-long"]}
        for role in ("worker", "worker-gpu", "client"):
            connection = await cluster.connect(role)
            queues = foreign.get(role, ["workers-any", "workers-any-long"])
            pulls = [f"$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.{queue}" for queue in queues]
            for subject in subjects + pulls + [f"$JS.ACK.FORGE_SHARDS.{queue}.1.1.1.1.0" for queue in queues]:
                connection.errors.clear()
                await connection.publish(subject, payload)
                await connection.flush()
                await asyncio.sleep(0.05)
                require(connection.errors, f"the server does not refuse {subject} of {role}")


ALL = [
    subjects_with_wildcards,
    entries_read_by_wildcard,
    headers_with_a_meaning_to_jetstream,
    hostile_json_in_results,
    hostile_heartbeats,
    hostile_json_in_submissions,
    list_of_agents_spoilt_by_a_worker,
    replies_stored_as_submissions_of_another,
    decisions_forged_by_a_worker,
]

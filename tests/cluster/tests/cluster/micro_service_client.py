"""Calls the micro service `forge` with nats-py alone and prints its replies as one JSON document."""

import asyncio
import json
import os
import sys

import nats


async def main():
    connection = await nats.connect(os.environ["NATS_URL"])

    async def request(subject, payload=b""):
        reply = await connection.request(subject, payload, timeout=10)
        headers = dict(reply.headers or {})
        body = json.loads(reply.data) if reply.data else None
        code, reason = headers.get("Nats-Service-Error-Code"), headers.get("Nats-Service-Error")
        return {"code": code, "reason": reason, "body": body}

    envelope = sys.stdin.buffer.read()
    job = json.loads(envelope)["ctx"]["job_id"]
    print(json.dumps({
        "info": await request("$SRV.INFO.forge"),
        "submit": await request("forge.v1.api.submit", envelope),
        "submit_again": await request("forge.v1.api.submit", envelope),
        "as_alice": await request("forge.v1.api.submit.alice", envelope),
        "submitter_too_long": await request("forge.v1.api.submit." + 33 * "x", envelope),
        "status": await request("forge.v1.api.status", json.dumps({"job_id": job}).encode()),
        "list": await request("forge.v1.api.list", json.dumps({"prefix": job, "limit": 1}).encode()),
        "cancel": await request("forge.v1.api.cancel", job.encode()),
        "unknown": await request("forge.v1.api.status", b"no-such-job"),
        "invalid": await request("forge.v1.api.submit", b'{"op": 1}'),
        "stats": await request("$SRV.STATS.forge"),
    }))
    await connection.close()


asyncio.run(main())

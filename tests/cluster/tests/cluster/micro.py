"""Talks to the micro service `forge` with nats-py alone, and prints what it answered as one JSON document."""

import asyncio
import json
import os
import sys

import nats


async def main():
    connection = await nats.connect(os.environ["NATS_URL"])

    async def ask(subject, payload=b""):
        answer = await connection.request(subject, payload, timeout=10)
        headers = dict(answer.headers or {})
        body = json.loads(answer.data) if answer.data else None
        return {"code": headers.get("Nats-Service-Error-Code"), "reason": headers.get("Nats-Service-Error"), "body": body}

    envelope = sys.stdin.buffer.read()
    job = json.loads(envelope)["ctx"]["job_id"]
    print(json.dumps({
        "info": await ask("$SRV.INFO.forge"),
        "submit": await ask("forge.v1.api.submit", envelope),
        "again": await ask("forge.v1.api.submit", envelope),
        "as_alice": await ask("forge.v1.api.submit.alice", envelope),
        "nobody": await ask("forge.v1.api.submit." + 33 * "x", envelope),
        "status": await ask("forge.v1.api.status", json.dumps({"job_id": job}).encode()),
        "cancel": await ask("forge.v1.api.cancel", job.encode()),
        "unknown": await ask("forge.v1.api.status", b"nobody"),
        "invalid": await ask("forge.v1.api.submit", b'{"op": 1}'),
        "stats": await ask("$SRV.STATS.forge"),
    }))
    await connection.close()


asyncio.run(main())

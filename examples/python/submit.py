"""Submits an envelope to Forge over NATS and follows the job to its end. Needs nothing but nats-py.

    python submit.py ../insurance.json

NATS_URL (or FORGE_NATS_URL) names the server. Exit codes: 0 the job completed, 3 it failed or was cancelled, 1 anything else.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import uuid

import nats
from nats.js.errors import KeyValueError

# Alone it is the subject of the submitter `default`; others have `.<name>` after it.
SUBMIT = "forge.v1.jobs.submit"
TERMINAL = {"completed", "failed", "cancelled"}
# A submission that cannot be recorded under its job id is recorded as rejected-<first 16 digits of its SHA-256>.
REJECTION_COMES_WITHIN = 3.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envelope", type=argparse.FileType("rb"), help="the envelope, a JSON file")
    parser.add_argument("--url", default=os.environ.get("NATS_URL") or os.environ.get("FORGE_NATS_URL")
                        or "nats://127.0.0.1:4222", help="the NATS server [%(default)s]")
    parser.add_argument("--user", default=os.environ.get("FORGE_NATS_USER"), help="user, if the server asks for one; "
                        "the password is taken from FORGE_NATS_PASSWORD")
    parser.add_argument("--inbox-prefix", default=os.environ.get("FORGE_NATS_INBOX_PREFIX") or "_INBOX",
                        help="prefix of the subjects on which answers come, where permissions ask for one")
    parser.add_argument("--bucket", default="jobs", help="key-value bucket of the job records [%(default)s]")
    parser.add_argument("--as", dest="job_id", help="submit it under this job id [ctx.job_id, or a new one]")
    parser.add_argument("--submitter", default=os.environ.get("FORGE_SUBMITTER"), help="submit it by this name, whose quotas "
                        "count [default]")
    parser.add_argument("--timeout", type=float, help="seconds to wait for the end of the job [for ever]")
    return parser.parse_args()


def prepared(text, job_id):
    """The bytes to submit and the job id. An envelope without an id gets one, so that its record can be found."""
    envelope = json.loads(text)
    ctx = envelope.get("ctx") or {}
    if job_id or not ctx.get("job_id"):
        envelope["ctx"] = {**ctx, "job_id": job_id or f"py-{uuid.uuid4()}"}
        text = json.dumps(envelope).encode()
    return text, str(envelope["ctx"]["job_id"])


async def follow(kv, job_id, payload, sequence):
    """The last record of the job that message `sequence` submitted."""
    records = asyncio.Queue()

    async def watch(key):
        async for entry in await kv.watch(key):
            # None says that all there was has been told.
            if entry is not None and entry.value:
                await records.put(json.loads(entry.value))

    rejected = "rejected-" + hashlib.sha256(payload).hexdigest()[:16]
    watches = [asyncio.create_task(watch(key)) for key in (job_id, rejected)]
    try:
        earlier = None
        while True:
            try:
                record = await asyncio.wait_for(records.get(), REJECTION_COMES_WITHIN if earlier else None)
            except asyncio.TimeoutError:
                return earlier
            progress = record["progress"]
            print(f"{record['state']:>10}  {progress['shards_done']}/{progress['shards']} shards", file=sys.stderr)
            if record["state"] in TERMINAL:
                if record["submission"] == sequence:
                    return record
                # An earlier submission's: this one repeats it, unless it turns out to be rejected.
                earlier = record
    finally:
        for task in watches:
            task.cancel()


def report(record):
    print(f"{record['job_id']}: {record['state']}")
    if error := record.get("error"):
        print(f"  {error['code']}: {error['message']}")
        for detail in error["details"]:
            print(f"  {detail['pointer']}: {detail['message']}")
    for name, value in record.get("headline", {}).items():
        print(f"  {name:28} {value:>18,.2f}")
    for name in ("result", "replay_key", "manifest"):
        if record.get(name):
            print(f"  {name:12} {record[name]}")


async def main():
    args = arguments()
    payload, job_id = prepared(args.envelope.read(), args.job_id)
    connection = await nats.connect(args.url, name="submit.py", user=args.user,
                                    password=os.environ.get("FORGE_NATS_PASSWORD") if args.user else None,
                                    inbox_prefix=args.inbox_prefix.encode())
    try:
        js = connection.jetstream()
        # The same bytes submitted twice within two minutes are one message; after that, still one job.
        message_id = "submit." + hashlib.sha256(payload).hexdigest()
        subject = SUBMIT if args.submitter in (None, "", "default") else f"{SUBMIT}.{args.submitter}"
        stored = await js.publish(subject, payload, headers={"Nats-Msg-Id": message_id})
        print(f"submitted {job_id} as message {stored.seq} of {stored.stream}", file=sys.stderr)
        kv = await js.key_value(args.bucket)
        record = await asyncio.wait_for(follow(kv, job_id, payload, stored.seq), args.timeout)
    finally:
        await connection.close()
    report(record)
    return 0 if record["state"] == "completed" else 3


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (OSError, ValueError, nats.errors.Error, KeyValueError, asyncio.TimeoutError) as error:
        sys.exit(f"error: {error or type(error).__name__}")

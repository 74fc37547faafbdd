"""Submits an envelope to Forge over NATS, and prints the progress of the job until it ends.

    python submit.py ../insurance.json

Requires only nats-py. NATS_URL or FORGE_NATS_URL is the URL of the server. Exit codes: 0 if the job
completed, 3 if it failed or was cancelled, 1 on any other error.
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

# The subject of the submitter `default`. For any other submitter, append `.<name>`.
SUBMIT = "forge.v1.jobs.submit"
TERMINAL = {"completed", "failed", "cancelled"}
# A submission that cannot be recorded under its job id, for example because another job has that
# id, is recorded as rejected-<first 16 hexadecimal digits of the SHA-256 of its bytes>. How long to
# wait for such a record:
REJECTION_TIMEOUT_SECONDS = 3.0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envelope", type=argparse.FileType("rb"), help="envelope, a JSON file")
    parser.add_argument("--url", default=os.environ.get("NATS_URL") or os.environ.get("FORGE_NATS_URL")
                        or "nats://127.0.0.1:4222", help="URL of the NATS server [%(default)s]")
    parser.add_argument("--user", default=os.environ.get("FORGE_NATS_USER"), help="user, if the server requires one; "
                        "the password is read from FORGE_NATS_PASSWORD")
    parser.add_argument("--inbox-prefix", default=os.environ.get("FORGE_NATS_INBOX_PREFIX") or "_INBOX",
                        help="prefix of reply subjects, if the user's permissions require one [%(default)s]")
    parser.add_argument("--bucket", default="jobs", help="key-value bucket that holds the job records [%(default)s]")
    parser.add_argument("--as", dest="job_id", help="job id [ctx.job_id of the envelope, or a new one]")
    parser.add_argument("--submitter", default=os.environ.get("FORGE_SUBMITTER"), help="submitter, whose quotas "
                        "apply [default]")
    parser.add_argument("--timeout", type=float, help="seconds to wait until the job ends [no limit]")
    return parser.parse_args()


def prepare_envelope(text, job_id):
    """Returns the bytes to submit, and the job id.

    An envelope without a job id is given one, so that the key of its record is known.
    """
    envelope = json.loads(text)
    ctx = envelope.get("ctx") or {}
    if job_id or not ctx.get("job_id"):
        envelope["ctx"] = {**ctx, "job_id": job_id or f"py-{uuid.uuid4()}"}
        text = json.dumps(envelope).encode()
    return text, str(envelope["ctx"]["job_id"])


async def wait_for_end(kv, job_id, payload, sequence):
    """Returns the terminal record of the job that message `sequence` submitted."""
    records = asyncio.Queue()

    async def watch(key):
        async for entry in await kv.watch(key):
            # None marks the end of the values that existed when the watch began.
            if entry is not None and entry.value:
                await records.put(json.loads(entry.value))

    rejection_key = "rejected-" + hashlib.sha256(payload).hexdigest()[:16]
    watches = [asyncio.create_task(watch(key)) for key in (job_id, rejection_key)]
    try:
        earlier_record = None
        while True:
            try:
                record = await asyncio.wait_for(records.get(), REJECTION_TIMEOUT_SECONDS if earlier_record else None)
            except asyncio.TimeoutError:
                return earlier_record
            progress = record["progress"]
            print(f"{record['state']:>10}  {progress['shards_done']}/{progress['shards']} shards", file=sys.stderr)
            if record["state"] in TERMINAL:
                if record["submission"] == sequence:
                    return record
                # The record is that of an earlier submission under the same job id. Unless this
                # submission is rejected, it repeats the earlier one and has the same result.
                earlier_record = record
    finally:
        for task in watches:
            task.cancel()


def print_record(record):
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
    args = parse_arguments()
    payload, job_id = prepare_envelope(args.envelope.read(), args.job_id)
    connection = await nats.connect(args.url, name="submit.py", user=args.user,
                                    password=os.environ.get("FORGE_NATS_PASSWORD") if args.user else None,
                                    inbox_prefix=args.inbox_prefix.encode())
    try:
        js = connection.jetstream()
        # JetStream drops a second message with this id within two minutes. After that, the planner
        # recognises the repeated envelope by its digest.
        message_id = "submit." + hashlib.sha256(payload).hexdigest()
        subject = SUBMIT if args.submitter in (None, "", "default") else f"{SUBMIT}.{args.submitter}"
        ack = await js.publish(subject, payload, headers={"Nats-Msg-Id": message_id})
        print(f"submitted {job_id} as message {ack.seq} of stream {ack.stream}", file=sys.stderr)
        kv = await js.key_value(args.bucket)
        record = await asyncio.wait_for(wait_for_end(kv, job_id, payload, ack.seq), args.timeout)
    finally:
        await connection.close()
    print_record(record)
    return 0 if record["state"] == "completed" else 3


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (OSError, ValueError, nats.errors.Error, KeyValueError, asyncio.TimeoutError) as error:
        sys.exit(f"error: {error or type(error).__name__}")

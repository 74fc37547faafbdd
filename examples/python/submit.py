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
import re
import sys
import time
import uuid

import nats
import nats.errors

# The subject of the submitter `default`. For any other submitter, append `.<name>`.
SUBMIT = "forge.v1.jobs.submit"
# The endpoint that replies with the record of a job.
STATUS = "forge.v1.api.status"
TERMINAL = {"completed", "failed", "cancelled"}
# A submission that cannot be recorded under its job id, for example because another job has that
# id, is recorded as rejected-<first 16 hexadecimal digits of the SHA-256 of its bytes>. How long to
# wait for such a record:
REJECTION_TIMEOUT_SECONDS = 3.0
# Characters of a text from a record that are printed.
MAX_CHARACTERS = 200
# Figures of a record, in the words of the command line.
LABELS = {
    "mean_loss": "Mean", "mean_eta": "Mean", "std_dev": "Standard deviation",
    "std_error": "Standard error of the mean", "min_loss": "Smallest", "min_eta": "Smallest", "max_loss": "Largest",
    "max_eta": "Largest", "zero_loss_probability": "Years without losses",
    "aggregate_limit_probability": "Years at the aggregate limit", "scr": "SCR",
}
# First and longest interval between two requests for the record.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.25, 2.0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envelope", type=argparse.FileType("rb"), help="envelope, a JSON file")
    parser.add_argument("--url", default=os.environ.get("NATS_URL") or os.environ.get("FORGE_NATS_URL")
                        or "nats://127.0.0.1:4222", help="URL of the NATS server [%(default)s]")
    parser.add_argument("--user", default=os.environ.get("FORGE_NATS_USER"), help="user, if the server requires one; "
                        "the password is read from FORGE_NATS_PASSWORD")
    parser.add_argument("--inbox-prefix", default=os.environ.get("FORGE_NATS_INBOX_PREFIX") or "_INBOX",
                        help="prefix of reply subjects, if the user's permissions require one [%(default)s]")
    parser.add_argument("--as", dest="job_id", help="job id [ctx.job_id of the envelope, or a new one]")
    parser.add_argument("--submitter", default=os.environ.get("FORGE_SUBMITTER"), help="submitter, whose quotas "
                        "apply [default]")
    parser.add_argument("--timeout", type=float, help="seconds to wait until the job ends [no limit]")
    return parser.parse_args()


def prepare_envelope(text, job_id):
    """Returns the bytes to submit, and the job id.

    An envelope without a job id is given one, so that its record can be requested.
    """
    envelope = json.loads(text)
    ctx = envelope.get("ctx") or {}
    if job_id or not ctx.get("job_id"):
        envelope["ctx"] = {**ctx, "job_id": job_id or f"py-{uuid.uuid4()}"}
        text = json.dumps(envelope).encode()
    return text, str(envelope["ctx"]["job_id"])


async def request_record(connection, job_id):
    """Returns the record of a job, or None if it does not exist or no planner answers now."""
    try:
        reply = await connection.request(STATUS, job_id.encode(), timeout=10)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return None
    code = (reply.headers or {}).get("Nats-Service-Error-Code")
    if code in ("404", "503"):
        return None
    if code:
        raise ValueError(f"{reply.headers.get('Nats-Service-Error')} (status {code})")
    return json.loads(reply.data)


def ended_subject(record):
    """Returns the subject of the notice that the job of a record has ended."""
    return f"forge.v1.ended.{record['uid']}"


async def wait_for_end(connection, job_id, payload, sequence):
    """Returns the terminal record of the job that message `sequence` submitted."""
    rejected_id = "rejected-" + hashlib.sha256(payload).hexdigest()[:16]
    shown, earlier_record, rejection_deadline = None, None, None
    notices, interval = None, FIRST_POLL_SECONDS
    while True:
        for candidate in (job_id, rejected_id):
            record = await request_record(connection, candidate)
            if record is None or record == shown or record == earlier_record:
                continue
            shown, progress = record, record["progress"]
            waits = f"  waiting: {printable(record['waiting'])}" if record.get("waiting") else ""
            print(f"{record['state']:>10}  {progress['shards_done']}/{progress['shards']} shards{waits}", file=sys.stderr)
            if notices is None:
                notices, interval = await connection.subscribe(ended_subject(record)), 0
            if record["state"] in TERMINAL:
                if record["submission"] == sequence:
                    return record
                # The record is that of an earlier submission under the same job id. Unless this
                # submission is rejected, it repeats the earlier one and has the same result.
                earlier_record = record
                rejection_deadline = time.monotonic() + REJECTION_TIMEOUT_SECONDS
        if earlier_record and time.monotonic() > rejection_deadline:
            return earlier_record
        # The notice that the job has ended makes the next poll immediate. The job may have ended
        # before the subscription, so the first poll after it is immediate too.
        try:
            if notices and interval:
                await notices.next_msg(timeout=interval)
                interval = FIRST_POLL_SECONDS
                continue
        except nats.errors.TimeoutError:
            pass
        else:
            await asyncio.sleep(interval)
        interval = min(max(2 * interval, FIRST_POLL_SECONDS), LAST_POLL_SECONDS)


def printable(text):
    """Returns text of a record for a terminal, which would execute escape sequences.

    Control characters and characters that are invisible are written out, and a long text is cut.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_CHARACTERS])
    return shown + "…" * (len(text) > MAX_CHARACTERS)


def label(name):
    """Returns the label of a figure as `forge status` prints it."""
    if name in LABELS:
        return LABELS[name]
    if level := re.fullmatch(r"p(\d\d)(\d*)_\w+", name):
        return f"{level[1]}{'.' * bool(level[2])}{level[2]}% quantile"
    return name.replace("_", " ").capitalize()


def amount(value):
    """Returns an amount as `forge status` prints it: below 1 with four significant digits."""
    if 0 < abs(value) < 1e-9:
        return f"{value:.3e}"
    if not 0 < abs(value) < 1:
        return f"{value:,.{2 if abs(value) < 1e12 else 0}f}"
    # The exponent after rounding to four digits.
    decimals = max(2, 3 - int(f"{value:.3e}".split("e")[1]))
    text = f"{value:.{decimals}f}"
    two_decimals = len(text) - decimals + 2
    return text[:two_decimals] + text[two_decimals:].rstrip("0")


def figure(name, value):
    """Returns a figure as text, as `forge status` prints it: rare events and small amounts never as 0."""
    if name == "solvency_ratio":
        return f"{100 * value:.1f}%"
    if name == "scr" and round(abs(value)) >= 1000:
        return f"{value:,.0f}"
    if not name.endswith("_probability"):
        return amount(value)
    percent = 100 * value
    distance = min(percent, 100 - percent)
    if 0 < distance < 0.0001:
        return "< 0.0001%" if percent < 50 else "> 99.9999%"
    return f"{percent:.{0 if distance == 0 else 4 if distance < 0.1 else 2}f}%"


def print_record(record):
    print(f"{record['job_id']}: {record['state']}")
    if error := record.get("error"):
        print(f"  {error['code']}: {printable(error['message'])}")
        for detail in error["details"]:
            print(f"  {printable(detail['pointer'])}: {printable(detail['message'])}")
    for name, value in record.get("headline", {}).items():
        print(f"  {printable(label(name)):32} {figure(name, value):>18}")
    for name in ("result", "replay_key", "manifest"):
        if record.get(name):
            print(f"  {name:12} {printable(record[name])}")


async def main():
    args = parse_arguments()
    payload, job_id = prepare_envelope(args.envelope.read(), args.job_id)
    connection = await nats.connect(args.url, name="submit.py", user=args.user,
                                    password=os.environ.get("FORGE_NATS_PASSWORD") if args.user else None,
                                    inbox_prefix=args.inbox_prefix.encode())
    try:
        js = connection.jetstream()
        # JetStream drops a second message with this id, so the id must be unguessable. The planner
        # recognises a repeated envelope by its digest.
        message_id = f"submit.{uuid.uuid4()}"
        subject = SUBMIT if args.submitter in (None, "", "default") else f"{SUBMIT}.{args.submitter}"
        ack = await js.publish(subject, payload, headers={"Nats-Msg-Id": message_id})
        print(f"submitted {job_id} as message {ack.seq} of stream {ack.stream}", file=sys.stderr)
        ended = wait_for_end(connection, job_id, payload, ack.seq)
        record = await asyncio.wait_for(ended, args.timeout)
    finally:
        await connection.close()
    print_record(record)
    return 0 if record["state"] == "completed" else 3


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (OSError, ValueError, nats.errors.Error, asyncio.TimeoutError) as error:
        sys.exit(f"error: {error or type(error).__name__}")

"""Lists the jobs in a bucket, or checks the artifacts of one job against its manifest.

    python browse.py s3://forge
    python browse.py s3://forge/prefix quickstart-001 --out quickstart-001

Requires only boto3, which reads the endpoint and the credentials from AWS_ENDPOINT_URL, AWS_REGION and
the other usual variables. Exit codes: 0 on success, 4 if an artifact does not match its SHA-256, 1 on
any other error.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# Characters of a text from the store that are printed.
MAX_CHARACTERS = 200


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="s3://bucket[/prefix]")
    parser.add_argument("job", nargs="?", help="job id to check; without it, all jobs are listed")
    parser.add_argument("--out", type=pathlib.Path, help="also write the artifacts to this directory")
    return parser.parse_args()


class Bucket:
    """The objects of a store at s3://bucket[/prefix]."""

    def __init__(self, store):
        scheme, _, rest = store.partition("://")
        self.name, _, prefix = rest.partition("/")
        if scheme != "s3" or not self.name:
            sys.exit(f"error: {store} is not of the form s3://bucket[/prefix]")
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.s3 = boto3.client("s3")

    def read(self, key):
        return self.s3.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()

    def folders(self, key):
        """Yields the names of the folders below a key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + key, Delimiter="/")
        for page in pages:
            for folder in page.get("CommonPrefixes", []):
                yield folder["Prefix"].removeprefix(self.prefix + key).rstrip("/")

    def document(self, key):
        """Returns a JSON document, or None if the object does not exist."""
        try:
            return json.loads(self.read(key))
        except self.s3.exceptions.NoSuchKey:
            return None


def printable(text):
    """Returns text of the store for a terminal, which would execute escape sequences.

    Control characters and characters that are invisible are written out, and a long text is cut.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_CHARACTERS])
    return shown + "…" * (len(text) > MAX_CHARACTERS)


def print_table(rows):
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def list_jobs(bucket):
    rows = [("JOB", "END", "RESULT")]
    for job in bucket.folders("jobs/"):
        if manifest := bucket.document(f"jobs/{job}/manifest.json"):
            rows.append((job, "completed", manifest["result"]))
        elif error := bucket.document(f"jobs/{job}/error.json"):
            rows.append((job, error["code"], error["message"]))
    print_table(rows)


def check_job(bucket, job, out):
    manifest = bucket.document(f"jobs/{job}/manifest.json")
    if manifest is None:
        sys.exit(f"error: job {job} has no manifest: it has not completed, or its artifacts were not persisted")
    rows, damaged = [("ARTIFACT", "BYTES", "SHA-256", "CHECK")], 0
    for artifact in manifest["artifacts"]:
        name, digest = artifact["name"], artifact["sha256"]
        content = bucket.read(f"artifacts/sha256/{digest}/{name}")
        is_intact = hashlib.sha256(content).hexdigest() == digest and len(content) == artifact["size"]
        damaged += not is_intact
        rows.append((name, str(len(content)), digest, "ok" if is_intact else "DAMAGED"))
        if out and is_intact:
            out.mkdir(parents=True, exist_ok=True)
            # The manifest is untrusted input: keep only the last component of a name, so that
            # no file is written outside the directory.
            (out / pathlib.PurePosixPath(name).name).write_bytes(content)
    print_table(rows)
    return 4 if damaged else 0


if __name__ == "__main__":
    args = parse_arguments()
    try:
        bucket = Bucket(args.store)
        sys.exit(check_job(bucket, args.job, args.out) if args.job else list_jobs(bucket))
    except (OSError, ValueError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")

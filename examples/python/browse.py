"""Lists the jobs in a bucket, or checks one job: downloads its artifacts and compares each with the SHA-256 it is named by.

    python browse.py s3://forge
    python browse.py s3://forge/prefix quickstart-001 --out quickstart-001

Needs nothing but boto3; AWS_ENDPOINT_URL, AWS_REGION and the usual credentials say where S3 is. Exit codes: 0 all is as
its name says, 4 something is not, 1 anything else.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", help="s3://bucket[/prefix]")
    parser.add_argument("job", nargs="?", help="the job to check; without it, jobs are listed")
    parser.add_argument("--out", type=pathlib.Path, help="also write the artifacts to this directory")
    return parser.parse_args()


class Bucket:
    """The objects below s3://bucket/prefix."""

    def __init__(self, place):
        scheme, _, rest = place.partition("://")
        self.name, _, prefix = rest.partition("/")
        if scheme != "s3" or not self.name:
            sys.exit(f"error: {place} is not s3://bucket[/prefix]")
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.s3 = boto3.client("s3")

    def read(self, key):
        return self.s3.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()

    def folders(self, key):
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + key, Delimiter="/")
        for page in pages:
            for folder in page.get("CommonPrefixes", []):
                yield folder["Prefix"].removeprefix(self.prefix + key).rstrip("/")

    def document(self, key):
        """A JSON document, or None if there is no such object."""
        try:
            return json.loads(self.read(key))
        except self.s3.exceptions.NoSuchKey:
            return None


def table(rows):
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
    table(rows)


def check_job(bucket, job, out):
    manifest = bucket.document(f"jobs/{job}/manifest.json")
    if manifest is None:
        sys.exit(f"error: there is no manifest of job {job}")
    rows, wrong = [("ARTIFACT", "BYTES", "SHA-256", "CHECK")], 0
    for artifact in manifest["artifacts"]:
        name, digest = artifact["name"], artifact["sha256"]
        content = bucket.read(f"artifacts/sha256/{digest}/{name}")
        whole = hashlib.sha256(content).hexdigest() == digest and len(content) == artifact["size"]
        wrong += not whole
        rows.append((name, str(len(content)), digest, "ok" if whole else "DAMAGED"))
        if out and whole:
            out.mkdir(parents=True, exist_ok=True)
            # Names are the manifest's word: none may lead out of the directory.
            (out / pathlib.PurePosixPath(name).name).write_bytes(content)
    table(rows)
    return 4 if wrong else 0


if __name__ == "__main__":
    args = arguments()
    try:
        bucket = Bucket(args.place)
        sys.exit(check_job(bucket, args.job, args.out) if args.job else list_jobs(bucket))
    except (OSError, ValueError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")

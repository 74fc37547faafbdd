"""Queries an S3 store with an independent client, for the S3 tests. Arguments: a command, a bucket, and the command's arguments."""

import os
import sys

import boto3
from botocore.exceptions import ClientError

s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name=os.environ["AWS_REGION"])
command, bucket, *rest = sys.argv[1:]

if command == "keys":
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=rest[0]).get("Contents", [])
    print("\n".join(entry["Key"] for entry in listed))
elif command == "versions":
    page = s3.list_object_versions(Bucket=bucket, Prefix=rest[0])
    for kind in "Versions", "DeleteMarkers":
        for entry in page.get(kind, []):
            print(kind, entry["Key"])
elif command == "media-type":
    print(s3.head_object(Bucket=bucket, Key=rest[0])["ContentType"])
elif command == "put":
    s3.put_object(Bucket=bucket, Key=rest[0], Body=rest[1].encode())
elif command == "retention":
    retention = s3.get_object_retention(Bucket=bucket, Key=rest[0])["Retention"]
    written = s3.head_object(Bucket=bucket, Key=rest[0])["LastModified"]
    print(retention["Mode"], round((retention["RetainUntilDate"] - written).total_seconds() / 86400))
elif command == "delete-versions":
    for version in s3.list_object_versions(Bucket=bucket, Prefix=rest[0]).get("Versions", []):
        try:
            s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
            print("deleted")
        except ClientError as error:
            print(error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
else:
    sys.exit(f"no command {command}")

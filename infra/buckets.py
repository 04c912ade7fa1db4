"""Emptying a bucket before its stack is deleted: CloudFormation deletes empty buckets only.

Downside: what somebody writes into the bucket meanwhile stays, and the deletion fails; then it has
to be run again.

Source: S3 API reference, ListObjectVersions and DeleteObjects (up to 1,000 keys a request).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.clients import Clients
from infra.errors import UnexpectedAnswerError, explained

BATCH = 1000
"""Keys of one request."""


def empty(clients: Clients, region: str, bucket: str, command: str) -> None:
    """Deletes every version of every object. Raises DeployError, also if one cannot be deleted."""
    client = clients.get("s3", region)
    with explained(f"bucket {bucket}", region, command):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            keys = list(_keys(page))
            for start in range(0, len(keys), BATCH):
                answer = client.delete_objects(
                    Bucket=bucket, Delete={"Objects": keys[start : start + BATCH], "Quiet": True}
                )
                if refused := answer.get("Errors"):
                    first = f"{refused[0].get('Key')}: {refused[0].get('Message')}"
                    raise UnexpectedAnswerError(
                        f"bucket {bucket}: {len(refused)} objects cannot be deleted, {first}",
                        f"empty it by hand, then: {command}",
                    )


def _keys(page: dict[str, Any]) -> Iterator[dict[str, str]]:
    for each in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
        yield {"Key": each["Key"], "VersionId": each["VersionId"]}

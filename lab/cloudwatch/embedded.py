"""Metrics out of a function's log: lines in CloudWatch's embedded metric format.

On AWS, CloudWatch Logs makes a metric of each line that has an `_aws` member. Here the logs are
files (`lab.lambda_runtime.log`), and `EmbeddedMetrics` looks again and again for what has been
added to them.

Imitated: a line that is one JSON object, its metric directives, dimension sets and single values.
Source: CloudWatch user guide, "Specification: Embedded metric format".

Downside: lists of values and high resolution are not read; a line that is not right is passed over
without a word, as CloudWatch does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.cloudwatch.errors import ApiError
from lab.errors import LabError

_MARK = b'"_aws"'
_LONGEST = 1_048_576
"""A line of a megabyte is what CloudWatch Logs takes ("CloudWatch Logs quotas")."""

Request = dict[str, Any]
"""Parameters of PutMetricData."""


def requests_of(line: bytes) -> list[Request]:
    """What a line publishes; nothing when it is no such line. Pure."""
    try:
        document = json.loads(line)
        return list(_requests(document)) if isinstance(document, dict) else []
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _requests(document: Mapping[str, Any]) -> Iterator[Request]:
    head = document["_aws"]
    for directive in head["CloudWatchMetrics"]:
        data = [
            {
                "MetricName": metric["Name"],
                "Dimensions": [{"Name": n, "Value": str(document[n])} for n in dimensions],
                "Value": float(document[metric["Name"]]),
                "Timestamp": head["Timestamp"] / 1000,
                "Unit": metric.get("Unit", "None"),
            }
            for dimensions in directive["Dimensions"]
            for metric in directive["Metrics"]
        ]
        yield {"Namespace": directive["Namespace"], "MetricData": data}


class LogTail:
    """What has been added to a file since it was last asked."""

    def __init__(self, path: Path) -> None:
        """What is there already is old."""
        self._path = path
        self._offset = self._size()

    def lines(self) -> list[bytes]:
        """Whole new lines. A file that was emptied is read from its beginning."""
        size = self._size()
        if size < self._offset:
            self._offset = 0
        if size == self._offset:
            return []
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read(_LONGEST)
            end = text.rfind(b"\n") + 1
            self._offset += end or (len(text) if len(text) == _LONGEST else 0)
            return text[:end].splitlines()
        return []

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


class EmbeddedMetrics:
    """Publishes what functions write into `logs`, looking every `interval` seconds."""

    def __init__(
        self, logs: Iterable[Path], publish: Callable[[Request], object], interval: float
    ) -> None:
        self._tails = [LogTail(path) for path in logs]
        self._publish = publish
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, in the running event loop."""
        if self._tails:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(self._interval)

    def look(self) -> None:
        """Publishes what is new. A refused line is passed over."""
        for tail in self._tails:
            for line in tail.lines():
                for request in requests_of(line) if _MARK in line else ():
                    with contextlib.suppress(LabError, ApiError):
                        self._publish(request)

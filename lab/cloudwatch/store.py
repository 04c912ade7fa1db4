"""Data points and alarm states on disk, so that a position outlives its region's process.

A change is written to a second file, forced to disk and renamed over the first before it is
answered: after a crash the file holds the state before or the state after, whole. Downside: the
whole file is written each time, some milliseconds in the caller's thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.cloudwatch.alarms import Metric
from lab.cloudwatch.errors import CloudWatchError
from lab.cloudwatch.evaluation import Point, Standing

_VERSION = 1

Data = dict[Metric, list[Point]]


class Store:
    """One JSON file: {"version": 1, "alarms": {name: standing}, "metrics": [metric and points]}."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[dict[str, Standing], Data]:
        """What was saved; nothing if nothing ever was. Raises CloudWatchError."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, {}
        except (OSError, ValueError, RecursionError) as error:
            raise self._corrupt(error) from error
        try:
            if document["version"] != _VERSION:
                raise ValueError(f"not a document of version {_VERSION}")
            alarms = {name: Standing(**given) for name, given in document["alarms"].items()}
            return alarms, dict(map(_metric, document["metrics"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._corrupt(error) from error

    def save(self, alarms: Mapping[str, Standing], data: Mapping[Metric, Sequence[Point]]) -> None:
        """Durably. Raises CloudWatchError: then the file is as it was."""
        document = {
            "version": _VERSION,
            "alarms": {name: asdict(standing) for name, standing in alarms.items()},
            "metrics": [
                {
                    "namespace": metric.namespace,
                    "name": metric.name,
                    "dimensions": sorted(metric.dimensions),
                    "points": [asdict(point) for point in points],
                }
                for metric, points in data.items()
                if points
            ],
        }
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise CloudWatchError(f"cannot save the alarms in {self._path}: {error}") from error

    def _corrupt(self, error: Exception) -> CloudWatchError:
        return CloudWatchError(
            f"the alarms in {self._path} cannot be read ({error}); restore the file, or remove it "
            "to start with every alarm in INSUFFICIENT_DATA"
        )


def _metric(given: Mapping[str, Any]) -> tuple[Metric, list[Point]]:
    dimensions = frozenset((str(name), str(value)) for name, value in given["dimensions"])
    metric = Metric(str(given["namespace"]), str(given["name"]), dimensions)
    return metric, [Point(**point) for point in given["points"]]

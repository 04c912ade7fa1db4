"""What was seen: outcomes of requests per service, region and tenth of a second. No I/O.

Beside the outcomes there are marks: things that happened at a time and are no outcome of their own.
An acknowledged write is one (the gap between two of them is what a move costs a writer), and an
attempt that was followed by another.

A `Record` is a heap of counters that can be cut (`take`) and added up (`merge`) in any order and
grouping, so the parts that Locust's worker processes send give the same report as one process.
Each counter of outcomes also keeps the exact times of its first and last request; merging takes
the earlier and the later one.

The downside: memory and report grow with the length of the run (one entry per service, tenth of a
second and region that answered: about 5 MB of JSON per service and hour).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BUCKETS_PER_SECOND = 10
FAILED = ""
"""Stands where a region's name stands, in the key of failed requests."""
WRITES = "writes"
"""Mark: a write was acknowledged. It is also counted as a good request."""
REFUSED = "refused"
"""Mark: a service said that it does not take writes now; the client asked again."""
REPEATED = "repeated"
"""Mark: an attempt at a write failed in another way; the client tried again."""
CONTRADICTED = "contradicted"
"""Mark: a row was not as it had been acknowledged. Whether it is lost, the ledger's check tells."""
MARKS = (WRITES, REFUSED, REPEATED, CONTRADICTED)


@dataclass(slots=True)
class Cell:
    """Requests of one service with one outcome that ended in one tenth of a second."""

    count: int
    first: float
    """When the first of them ended, in seconds since the epoch."""
    last: float

    def add(self, count: int, first: float, last: float) -> None:
        self.count += count
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last


CellKey = tuple[int, str, str]
"""(bucket: tenths of a second since the epoch, service, region or FAILED)"""


class Record:
    """Mutable. Two records are equal when they hold the same counts and times."""

    __slots__ = ("cells", "counters", "failures", "marks", "reasons")

    def __init__(self) -> None:
        self.cells: dict[CellKey, Cell] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        """(service, reason) → failed requests"""
        self.marks: dict[CellKey, Cell] = {}
        """The key's last part is one of MARKS."""
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        """(service, mark, reason) → count, of the marks that have a reason"""
        self.counters: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Anything else that is counted, by group: `sockets`, `connections`, `resolver`."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self.to_wire() == other.to_wire()

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self.cells or self.failures or self.marks or any(self.counters.values()))

    def good(self, service: str, region: str, at: float) -> None:
        """One request of `service` was answered by `region`; its answer was complete at `at`."""
        _add(self.cells, (int(at * BUCKETS_PER_SECOND), service, region), 1, at, at)

    def failed(self, service: str, reason: str, at: float) -> None:
        """One request of `service` ended at `at` without a good answer, for `reason`."""
        _add(self.cells, (int(at * BUCKETS_PER_SECOND), service, FAILED), 1, at, at)
        self.failures[service, reason] += 1

    def mark(self, service: str, mark: str, at: float, reason: str = "") -> None:
        """One of MARKS happened at `at`."""
        _add(self.marks, (int(at * BUCKETS_PER_SECOND), service, mark), 1, at, at)
        if reason:
            self.reasons[service, mark, reason] += 1

    def merge(self, other: Record) -> None:
        """Adds `other` to this record; `other` stays as it is."""
        for key, cell in other.cells.items():
            _add(self.cells, key, cell.count, cell.first, cell.last)
        for key, cell in other.marks.items():
            _add(self.marks, key, cell.count, cell.first, cell.last)
        self.failures.update(other.failures)
        self.reasons.update(other.reasons)
        for group, counter in other.counters.items():
            self.counters[group].update(counter)

    def take(self) -> Record:
        """Hands out all that was recorded so far and starts again from nothing."""
        taken = Record()
        taken.cells, self.cells = self.cells, taken.cells
        taken.failures, self.failures = self.failures, taken.failures
        taken.marks, self.marks = self.marks, taken.marks
        taken.reasons, self.reasons = self.reasons, taken.reasons
        # The groups are emptied in place: other objects hold on to them while they count.
        for group, counter in self.counters.items():
            taken.counters[group].update(counter)
            counter.clear()
        return taken

    def to_wire(self) -> dict[str, Any]:
        """As lists and dictionaries of plain values, in one order for equal records."""
        return {
            "cells": _cells_to_wire(self.cells),
            "marks": _cells_to_wire(self.marks),
            "reasons": [[*key, count] for key, count in sorted(self.reasons.items()) if count],
            "failures": [
                [service, reason, count]
                for (service, reason), count in sorted(self.failures.items())
                if count
            ],
            "counters": {
                group: dict(sorted((key, count) for key, count in counter.items() if count))
                for group, counter in sorted(self.counters.items())
                if any(counter.values())
            },
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Record:
        record = cls()
        for bucket, service, region, count, first, last in wire["cells"]:
            _add(record.cells, (bucket, service, region), count, first, last)
        for bucket, service, mark, count, first, last in wire["marks"]:
            _add(record.marks, (bucket, service, mark), count, first, last)
        for service, mark, reason, count in wire["reasons"]:
            record.reasons[service, mark, reason] += count
        for service, reason, count in wire["failures"]:
            record.failures[service, reason] += count
        for group, counter in wire["counters"].items():
            record.counters[group].update(counter)
        return record

    def services(self, expected: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
        """Totals per service: `requests`, `failed`, `by_region`, `failures` by reason.

        `requests` counts good and failed ones. A service of `expected` without a sample is listed
        with zeros. A service with marks has the number of each in `marks`, and in `reasons` how
        often each mark had which reason.
        """
        totals = {name: _no_totals() for name in expected}
        for (_, service, region), cell in sorted(self.cells.items(), key=lambda item: item[0]):
            total = totals.setdefault(service, _no_totals())
            total["requests"] += cell.count
            if region == FAILED:
                total["failed"] += cell.count
            else:
                by_region = total["by_region"]
                by_region[region] = by_region.get(region, 0) + cell.count
        for (service, reason), count in sorted(self.failures.items()):
            totals.setdefault(service, _no_totals())["failures"][reason] = count
        for (_, service, mark), cell in sorted(self.marks.items(), key=lambda item: item[0]):
            marks = totals.setdefault(service, _no_totals()).setdefault("marks", {})
            marks[mark] = marks.get(mark, 0) + cell.count
        for (service, mark, reason), count in sorted(self.reasons.items()):
            reasons = totals.setdefault(service, _no_totals()).setdefault("reasons", {})
            reasons.setdefault(mark, {})[reason] = count
        return totals

    def timeline(self) -> list[dict[str, Any]]:
        """The cells in order of time, as they stand in the report.

        Each entry: `at` (start of the tenth of a second), `service`, `regions` (region → count,
        first, last) and, when requests failed, `failed` (count, first, last).
        """
        entries: dict[tuple[int, str], dict[str, Any]] = {}
        for (bucket, service, region), cell in sorted(self.cells.items(), key=lambda item: item[0]):
            entry = entries.setdefault(
                (bucket, service),
                {"at": bucket / BUCKETS_PER_SECOND, "service": service, "regions": {}},
            )
            numbers = {"count": cell.count, "first": cell.first, "last": cell.last}
            if region == FAILED:
                entry["failed"] = numbers
            else:
                entry["regions"][region] = numbers
        return list(entries.values())

    def marks_in_time(self) -> list[dict[str, Any]]:
        """The marks in order of time, as they stand in the report: `at` (start of the tenth of a
        second), `service`, `mark`, `count`, `first`, `last`."""
        return [
            {
                "at": bucket / BUCKETS_PER_SECOND,
                "service": service,
                "mark": mark,
                "count": cell.count,
                "first": cell.first,
                "last": cell.last,
            }
            for (bucket, service, mark), cell in sorted(
                self.marks.items(), key=lambda item: item[0]
            )
        ]


def _add(cells: dict[CellKey, Cell], key: CellKey, count: int, first: float, last: float) -> None:
    cell = cells.get(key)
    if cell is None:
        cells[key] = Cell(count, first, last)
    else:
        cell.add(count, first, last)


def _cells_to_wire(cells: Mapping[CellKey, Cell]) -> list[list[Any]]:
    return [
        [*key, cell.count, cell.first, cell.last]
        for key, cell in sorted(cells.items(), key=lambda item: item[0])
    ]


def _no_totals() -> dict[str, Any]:
    return {"requests": 0, "failed": 0, "by_region": {}, "failures": {}}


def cells_of_timeline(
    timeline: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, str, Cell]]:
    """The way back from a report's `timeline`: (service, region or FAILED, cell), in its order."""
    for entry in timeline:
        for region, numbers in entry["regions"].items():
            yield entry["service"], region, Cell(**numbers)
        if "failed" in entry:
            yield entry["service"], FAILED, Cell(**entry["failed"])


def merged(records: Iterable[Record]) -> Record:
    """The sum of all, in a new record."""
    total = Record()
    for record in records:
        total.merge(record)
    return total

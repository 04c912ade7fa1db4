"""What a person sees while the demo runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.topology import Topology
from lab.demo.traffic import Tally

EVENT_LINES = 8
PLAIN_EVERY_SECONDS = 2.0


class Screen:
    """Context manager. `event` announces, `refresh` shows the last second's answers."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._began = time.time()
        self._events: list[str] = []
        self._live: Live | None = None
        self._plain_due = 0.0
        self._last: Mapping[str, Tally] = {}

    def __enter__(self) -> Screen:
        if sys.stdout.isatty():
            self._live = Live(Text(), console=Console(), refresh_per_second=8)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def event(self, text: str) -> None:
        """Something was done."""
        line = f"{time.time() - self._began:6.1f} s  {text}"
        self._events.append(line)
        if self._live is None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        else:
            self._live.update(self._render())

    def refresh(self, last_second: Mapping[str, Tally]) -> None:
        """New numbers from the traffic: service -> answers of the last second."""
        self._last = last_second
        if self._live is not None:
            self._live.update(self._render())
        elif time.time() >= self._plain_due:
            self._plain_due = time.time() + PLAIN_EVERY_SECONDS
            sys.stdout.write(self._plain() + "\n")
            sys.stdout.flush()

    def _plain(self) -> str:
        cells = []
        for service in self._topology.services:
            tally = self._last.get(service, Tally())
            shares = " ".join(f"{r} {tally.share(r):4.0%}" for r in self._topology.regions)
            cells.append(f"{service}: {shares} failed {tally.failed}")
        return f"{time.time() - self._began:6.1f} s  " + " | ".join(cells)

    def _render(self) -> Group:
        table = Table("service", *self._topology.regions, "answers/s", "failed")
        for service in self._topology.services:
            tally = self._last.get(service, Tally())
            table.add_row(
                service,
                *(_bar(tally.share(region)) for region in self._topology.regions),
                str(sum(tally.by_region.values())),
                Text(str(tally.failed), style="bold red" if tally.failed else "dim"),
            )
        return Group(table, Text("\n".join(self._events[-EVENT_LINES:])))


def _bar(share: float) -> Text:
    full = round(share * 10)
    bar = "█" * full + "·" * (10 - full)
    return Text(f"{bar} {share:4.0%}", style="green" if full else "dim")


def summary(document: Mapping[str, Any]) -> str:
    """What the evidence says, one line per service and event in which something moved."""
    lines = []
    for name, service in document["services"].items():
        regions = ", ".join(f"{count} from {r}" for r, count in service["by_region"].items())
        lines.append(f"{name}: {service['requests']} requests, {regions}")
        for event in service["events"]:
            if event["rto_seconds"] is not None:
                what = event["kind"].replace("_", " ")
                lines.append(
                    f"  {what:<14} {event['from']} -> {event['to']}: "
                    f"{event['rto_seconds']:.2f} s to the first new answer, "
                    f"{event['failed_requests']} failed"
                )
    return "\n".join(lines)

"""Locust as a separate process, and what its event stream has told so far."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.demo.writes import LEDGER
from lab.errors import LabError
from lab.lifecycle import Lab

if TYPE_CHECKING:
    from lab.demo.screen import Screen

POLL_SECONDS = 0.1
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers of one service within one period."""

    by_region: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0

    def share(self, region: str) -> float:
        total = sum(self.by_region.values())
        return self.by_region.get(region, 0) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """One line of the stream: who answered between `began` and `ended` (Unix seconds)."""

    began: float
    ended: float
    services: Mapping[str, Tally]


class Traffic:
    """Runs until `stop`; raises LabError if Locust ends by itself."""

    def __init__(self, lab: Lab, reports: Path, rate: int, screen: Screen) -> None:
        self._screen = screen
        self._events = reports / "load.events.jsonl"
        self._events.unlink(missing_ok=True)
        self._log = (reports / "locust.log").open("w")
        self._periods: list[Period] = []
        self._read_to = 0
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"),
                *("--rate", str(rate), "--report", str(reports / "load.json")),
                *("--events", str(self._events), "--users", "16", "--spawn-rate", "100"),
                *("--ledger", str(reports / LEDGER), "--todo-writes-per-second", "50"),
            ],
            env=lab.environment(),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Follow the stream until `condition()`; False if that took longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            if self._process.poll() is not None:
                raise LabError(f"locust ended by itself; see {self._log.name}")
            time.sleep(POLL_SECONDS)
            self._follow()
        return True

    def answers_since(self, since: float, service: str, region: str) -> int:
        """Good answers from that region in the periods that began at or after `since`."""
        return sum(
            p.services[service].by_region.get(region, 0)
            for p in self._periods
            if p.began >= since and service in p.services
        )

    def failed_since(self, since: float) -> int:
        return sum(t.failed for p in self._periods if p.ended >= since for t in p.services.values())

    def stop(self) -> None:
        """End Locust, which then writes its report."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _follow(self) -> None:
        if not self._events.exists():
            return
        with self._events.open() as stream:
            stream.seek(self._read_to)
            while (line := stream.readline()).endswith("\n"):
                self._read_to = stream.tell()
                self._take(json.loads(line))

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["kind"] != "second":
            return
        began = self._periods[-1].ended if self._periods else event["at"] - 1
        services = {
            name: Tally(numbers["by_region"], numbers["failed"])
            for name, numbers in event["services"].items()
        }
        self._periods.append(Period(began, event["at"], services))
        self._screen.refresh(services)

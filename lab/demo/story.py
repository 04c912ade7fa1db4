"""The demo's sequence of events: what is done, in which order, and what is waited for.

Every wait is for something seen from outside (so many answers from the expected region), with a
limit. The story commands and records; it judges nothing: `python -m loadtest.evidence` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.topology import API, Topology, load_topology
from lab.cli import pick_network
from lab.demo.screen import Screen, summary
from lab.demo.traffic import Traffic
from lab.demo.writes import Checks
from lab.errors import LabError
from lab.faults import Faults
from lab.lifecycle import Lab, remove
from lab.settings import PROFILES

SETTLE_SECONDS = 30.0
"""So long may it take until every service answers from where it should."""
RESEED_SECONDS = 60
"""So long may it take until a lost region's database is a replica again."""
REPLICATION_DELAY = 0.064
"""One way between the databases before the region is lost, in seconds: about what us-east-1 and
us-west-2 have. Without it nothing would be on its way, and so nothing would be lost."""
PRECONDITION = 4
"""Exit code of `failover` (the lab does not import it): not every precondition is met, and nothing
was changed."""


class Unsettled(LabError):
    """Something that should have been seen from outside was not seen in time."""


class NotStarted(LabError):
    """`failover` refused and changed nothing. On a busy machine that may be over in a moment."""


@dataclass
class Story:
    lab: Lab
    topology_file: Path
    reports: Path
    rate: int
    samples: int
    patience: float = SETTLE_SECONDS
    """Seconds for which a command that is refused is tried again, every `pause` seconds."""
    pause: float = 0.5
    moves: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checks = Checks(self.lab, self.reports)

    def run(self) -> int:
        """The whole demo; returns the exit code of the evidence."""
        topology = load_topology(self.topology_file)
        self.reports.mkdir(parents=True, exist_ok=True)
        self.checks.forget()
        self._forget_last_run()
        network = pick_network(self.lab, "auto", self.topology_file)
        self.lab.up(self.topology_file, network, PROFILES["fast"])
        try:
            with Screen(topology) as screen:
                self._with_traffic(topology, screen)
        finally:
            self.lab.down()
        return self._judge()

    def _forget_last_run(self) -> None:
        """Switch positions outlive a lab; the story begins with every service in the primary."""
        if self.lab.processes.alive():
            self.lab.down()
        remove(self.lab.paths)

    def _with_traffic(self, topology: Topology, screen: Screen) -> None:
        traffic = Traffic(self.lab, self.reports, self.rate, screen)
        try:
            self._tell(topology, screen, traffic)
        finally:
            traffic.stop()

    def _tell(self, topology: Topology, screen: Screen, traffic: Traffic) -> None:
        first, second = topology.regions
        services = list(topology.services)
        one = "service1" if "service1" in services else services[-1]
        everywhere = dict.fromkeys(services, first)

        databases = [s.name for s in topology.services.values() if s.database]
        screen.event("traffic on every service")
        self._steady(traffic, everywhere)

        for name in (one, *databases):
            self._move(screen, [name], first, second)
            self._steady(traffic, {**everywhere, name: second})
            self._check(screen, name in databases, f"{name} to {second}")
            self._move(screen, [name], second, first)
            self._steady(traffic, everywhere)
            self._check(screen, name in databases, f"{name} to {first}")

        if databases:
            screen.event(f"{REPLICATION_DELAY * 1000:.0f} ms between the databases from now on")
            Faults(self.lab).replication(REPLICATION_DELAY, None)
            self._steady(traffic, everywhere)
        killed_at = self._kill(screen, services, first)
        if not traffic.wait(lambda: traffic.failed_since(killed_at) > 0, SETTLE_SECONDS):
            raise Unsettled(f"{first} was killed, and no request failed")
        self._evacuate(screen, services, first, second, bool(databases))
        self._steady(traffic, dict.fromkeys(services, second))
        self._check(screen, bool(databases), f"{first} lost")

        self._restore(screen, services, first)
        for name in databases:
            screen.event(f"lost volume: {self.checks.confirm()}")
            self._back(screen, name, second, first)
        self._move(screen, [s for s in (*services, API) if s not in databases], second, first)
        self._steady(traffic, everywhere)
        self._check(screen, bool(databases), "the end")

    # ---- chapters

    def _move(self, screen: Screen, services: list[str], old: str, new: str) -> None:
        screen.event(f"failover move {' '.join(services)} --to {new}")
        move = self._recorded("planned_move", services, old, new)
        self._failover(screen, move, "move", *services, "--to", new)

    def _kill(self, screen: Screen, services: list[str], region: str) -> float:
        screen.event(f"{region} killed without warning")
        with self._recorded("region_killed", services, region, None) as at:
            Faults(self.lab).region(region, "kill")
        return at

    def _evacuate(
        self, screen: Screen, services: list[str], old: str, new: str, data_loss: bool
    ) -> None:
        consent = ["--allow-data-loss"] if data_loss else []
        screen.event(" ".join(["failover evacuate", old, *consent]))
        move = self._recorded("evacuation", [*services, API], old, new)
        self._failover(screen, move, "evacuate", old, *consent)

    def _back(self, screen: Screen, service: str, old: str, new: str) -> None:
        """Home again by a switchover, as soon as the old primary is a healthy replica."""
        screen.event(f"failover back {service}")
        move = self._recorded("planned_move", [service], old, new)
        self._failover(
            screen, move, "back", service, "--wait-for-replica", str(RESEED_SECONDS)
        )

    def _restore(self, screen: Screen, services: list[str], region: str) -> None:
        screen.event(f"{region} restored")
        with self._recorded("region_restored", services, None, region):
            Faults(self.lab).region(region, "restore")

    # ---- evidence on writes

    def _check(self, screen: Screen, wanted: bool, label: str) -> None:
        if wanted:
            screen.event(f"ledger: {self.checks.check(label)}")

    # ---- means

    def _failover(self, screen: Screen, move: _Recorded, *arguments: str) -> None:
        """Does it and records it. What is refused is tried again for a while, as a person would;
        only the last attempt counts, since the others changed nothing."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with move:
                    self._command(*arguments)
            except NotStarted as error:
                if time.monotonic() > deadline:
                    raise
                screen.event(f"refused, trying again: {str(error).splitlines()[-1].strip(' -')}")
                time.sleep(self.pause)
            else:
                screen.event(f"failover {arguments[0]} done")
                return

    def _command(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "failover", *arguments, "--yes", "--json"]
        journal = ["--journal-dir", str(self.reports / "journal")]
        done = subprocess.run(
            [*command, *journal],
            env=self.lab.environment(),
            capture_output=True,
            text=True,
            timeout=60 + RESEED_SECONDS,
            check=False,
        )
        if done.returncode:
            error = NotStarted if done.returncode == PRECONDITION else LabError
            raise error(
                f"failover {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
            )

    def _steady(self, traffic: Traffic, expected: dict[str, str]) -> None:
        """Wait until every service has answered `samples` times from its region since now."""
        since = time.time()

        def seen() -> bool:
            return all(
                traffic.answers_since(since, service, region) >= self.samples
                for service, region in expected.items()
            )

        if not traffic.wait(seen, SETTLE_SECONDS):
            seen_so_far = {s: traffic.answers_since(since, s, r) for s, r in expected.items()}
            raise Unsettled(f"expected {expected}; seen in {SETTLE_SECONDS:.0f} s: {seen_so_far}")

    def _recorded(
        self, kind: str, services: list[str], old: str | None, new: str | None
    ) -> _Recorded:
        return _Recorded(self.moves, kind, services, old, new)

    def _judge(self) -> int:
        moves = self.reports / "moves.json"
        moves.write_text(json.dumps(self.moves, indent=1))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "loadtest.evidence"),
                *("--report", str(self.reports / "load.json"), "--moves", str(moves)),
                *("--json", str(self.reports / "demo.json")),
                *("--html", str(self.reports / "demo.html")),
                *(x for result in self.checks.results for x in ("--ledger-result", str(result))),
            ],
            env=os.environ,
            check=False,
        )
        document = json.loads((self.reports / "demo.json").read_text())
        sys.stdout.write(summary(document) + f"\npage: {self.reports / 'demo.html'}\n")
        return done.returncode


@dataclass
class _Recorded:
    """Context manager that writes one commanded event, with its times, into the list; nothing when
    the command failed."""

    moves: list[dict[str, Any]]
    kind: str
    services: list[str]
    old: str | None
    new: str | None
    began: float = 0.0

    def __enter__(self) -> float:
        self.began = time.time()
        return self.began

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            return
        self.moves.append(
            {
                "kind": self.kind,
                "services": self.services,
                "from": self.old,
                "to": self.new,
                "commanded_at": self.began,
                "ended_at": time.time(),
            }
        )

"""Bad days on request: `lab fault …`, and back.

    region REGION kill|hang|resume|cut|heal|restore
    arc REGION none|refuse|hang|unavailable|error|throttle|lose_answer
    apigateway REGION down|up
    cloudwatch REGION down|up
    database REGION kill|hang|resume|restore
    replication [--delay SECONDS] [--cut] [--heal]
    function SERVICE REGION [--delay SECONDS] [--error-rate 0..1] [--throttle]
    clear

`kill` is SIGKILL to every process of the region. The region's own ARC endpoint is a fault of its
own (`arc REGION refuse`), as are the four others. `hang` is SIGSTOP: connections are accepted by
the kernel and never answered. `cut` closes the region's listener while its processes live on (a
network partition). `restore` starts what is dead, resumes what hangs and heals what was cut.

Downside: a fault lasts until it is taken back; there is no expiry. `lab status` shows them all.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import control
from lab.errors import LabError, PreconditionError, UsageError
from lab.lifecycle import Lab
from lab.process import Process
from lab.settings import ARC_REGIONS, Settings

REGION_FAULTS = ("kill", "hang", "resume", "cut", "heal", "restore")
DATABASE_FAULTS = ("kill", "hang", "resume", "restore")
ARC_FAULTS = ("none", "refuse", "hang", "unavailable", "error", "throttle", "lose_answer")


@dataclass(frozen=True, slots=True)
class FunctionFault:
    """What one function suffers. All zero: nothing."""

    delay_seconds: float = 0.0
    error_rate: float = 0.0
    throttle: bool = False


class Faults:
    """Faults of one running lab."""

    def __init__(self, lab: Lab) -> None:
        if not lab.paths.lab_json.exists():
            raise PreconditionError(f"no lab is up in {lab.paths.root}; start it with: lab up")
        self._lab = lab
        self._settings = Settings.load(lab.paths.settings)

    def region(self, region: str, mode: str) -> None:
        _one_of("region", region, self._settings.regions)
        _one_of("fault", mode, REGION_FAULTS)
        if mode == "restore":
            self._restore(region)
        elif mode in ("cut", "heal"):
            self._alive([region])
            self._cut(region, mode == "cut")
        else:
            self._signal(self._alive(self._settings.processes_of(region)), mode)

    def database(self, region: str, mode: str) -> None:
        """A region's database server alone."""
        _one_of("region", region, self._settings.regions)
        _one_of("fault", mode, DATABASE_FAULTS)
        self._need_database()
        if mode == "restore":
            self._lab.restore(region)
        else:
            self._signal(self._alive([f"db-{region}"]), mode)

    def replication(self, delay: float | None, cut: bool | None) -> None:
        """Between the databases, in both directions. `cut` False heals."""
        self._need_database()
        for region in self._settings.regions:
            if self._lab.processes.get(region):
                self._call(region, "replication", delay_seconds=delay, cut=cut)

    def _need_database(self) -> None:
        if not self._settings.database:
            raise PreconditionError("no service of this lab has a database")

    def _alive(self, names: Sequence[str]) -> list[Process]:
        found = [p for p in map(self._lab.processes.get, names) if p is not None]
        if not found:
            region = names[0].removeprefix("db-")
            raise PreconditionError(
                f"{names[0]} is down; bring it back with: lab fault region {region} restore"
            )
        return found

    def _signal(self, processes: list[Process], mode: str) -> None:
        if mode == "kill":
            self._lab.processes.kill(processes)
        for process in processes:
            process.signal(signal.SIGCONT if mode == "resume" else signal.SIGSTOP)

    def _cut(self, region: str, on: bool) -> None:
        self._call(region, "cut", on=on)
        if self._settings.database:
            self._call(region, "replication", cut=on)

    def _restore(self, region: str) -> None:
        for process in map(self._lab.processes.get, self._settings.processes_of(region)):
            if process is not None:
                process.signal(signal.SIGCONT)
        if self._lab.processes.get(region) is not None:
            self._cut(region, on=False)
        self._lab.restore(region)

    def arc(self, region: str, mode: str) -> None:
        _one_of("ARC endpoint", region, ARC_REGIONS)
        _one_of("fault", mode, ARC_FAULTS)
        if not self._settings.cluster:
            raise PreconditionError("no entry of this lab is switched by ARC: it has no cluster")
        self._call("global", "arc_fault", region=region, mode=mode)

    def apigateway(self, region: str, mode: str) -> None:
        _one_of("region", region, self._settings.regions)
        _one_of("fault", mode, ("down", "up"))
        self._call("global", "apigateway_available", region=region, available=mode == "up")

    def cloudwatch(self, region: str, mode: str) -> None:
        """The region's CloudWatch alone: it refuses, and Route 53 gets none of its data."""
        _one_of("region", region, self._settings.regions)
        _one_of("fault", mode, ("down", "up"))
        if not self._settings.cloudwatch:
            raise PreconditionError("no entry of this lab is switched by alarms")
        self._call(region, "cloudwatch_available", available=mode == "up")

    def function(self, service: str, region: str, fault: FunctionFault) -> None:
        _one_of("region", region, self._settings.regions)
        self._call(
            region,
            "function_fault",
            service=service,
            delay_seconds=fault.delay_seconds,
            error_rate=fault.error_rate,
            throttle=fault.throttle,
        )

    def clear(self) -> None:
        """Take every fault back."""
        for endpoint in ARC_REGIONS if self._settings.cluster else ():
            self.arc(endpoint, "none")
        for region in self._settings.regions:
            self.apigateway(region, "up")
            self._restore(region)
            self._call(region, "clear_function_faults")
            if self._settings.cloudwatch:
                self.cloudwatch(region, "up")
            if self._settings.database:
                self._call(region, "clear_replication")

    def _call(self, process: str, command: str, **arguments: Any) -> None:
        try:
            control.call(self._lab.paths.socket(process), command, **arguments)
        except OSError as error:
            raise LabError(f"{process} cannot be reached ({error}); see lab status") from None


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{what} {value!r} is unknown; known are {', '.join(known)}")

"""Bad days on request: `lab fault …`, and back.

    region REGION kill|hang|resume|cut|heal|restore
    arc REGION none|refuse|hang|unavailable|error|throttle|lose_answer
    apigateway REGION down|up
    function SERVICE REGION [--delay SECONDS] [--error-rate 0..1] [--throttle]
    clear

`kill` is SIGKILL to every process of the region, and the region's own ARC endpoint refuses
connections, as it would with the region gone. `hang` is SIGSTOP: connections are accepted by the
kernel and never answered. `cut` closes the region's listener while its processes live on (a network
partition). `restore` starts what is dead, resumes what hangs and heals what was cut.

Downside: a fault lasts until it is taken back; there is no expiry. `lab status` shows them all.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import control
from lab.errors import LabError, PreconditionError, UsageError
from lab.lifecycle import Lab
from lab.settings import ARC_REGIONS, Settings

REGION_FAULTS = ("kill", "hang", "resume", "cut", "heal", "restore")
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
        process = self._lab.processes.get(region)
        if mode == "restore":
            self._restore(region)
            return
        if process is None:
            raise PreconditionError(f"{region} is down; bring it back with: "
                                    f"lab fault region {region} restore")
        if mode == "kill":
            self._lab.processes.kill([process])
            self._arc_if_up(region, "refuse")
        elif mode == "hang":
            process.signal(signal.SIGSTOP)
        elif mode == "resume":
            process.signal(signal.SIGCONT)
        else:
            self._call(region, "cut", on=mode == "cut")

    def _restore(self, region: str) -> None:
        process = self._lab.processes.get(region)
        if process is not None:
            process.signal(signal.SIGCONT)
            self._call(region, "cut", on=False)
        self._arc_if_up(region, "none")
        self._lab.restore(region)

    def _arc_if_up(self, region: str, mode: str) -> None:
        if region in ARC_REGIONS:
            with contextlib.suppress(OSError):
                self._call("global", "arc_fault", region=region, mode=mode)

    def arc(self, region: str, mode: str) -> None:
        _one_of("ARC endpoint", region, ARC_REGIONS)
        _one_of("fault", mode, ARC_FAULTS)
        self._call("global", "arc_fault", region=region, mode=mode)

    def apigateway(self, region: str, mode: str) -> None:
        _one_of("region", region, self._settings.regions)
        _one_of("fault", mode, ("down", "up"))
        self._call("global", "apigateway_available", region=region, available=mode == "up")

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
        for endpoint in ARC_REGIONS:
            self.arc(endpoint, "none")
        for region in self._settings.regions:
            self.apigateway(region, "up")
            self._restore(region)
            self._call(region, "clear_function_faults")

    def _call(self, process: str, command: str, **arguments: Any) -> None:
        try:
            control.call(self._lab.paths.socket(process), command, **arguments)
        except OSError as error:
            raise LabError(f"{process} cannot be reached ({error}); see lab status") from None


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{what} {value!r} is unknown; known are {', '.join(known)}")

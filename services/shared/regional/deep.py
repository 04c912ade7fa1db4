"""The deep health check of a service: does everything work that it needs?

A check is a function that returns when the thing works and raises when it does not; its reply, if
it has one, is shown. All of them run, one after the other, so that an answer names every fault at
once. The path is public: of an exception it shows the kind, the log has the rest.

Downside: a check that hangs hangs the answer, until the function's time-out: bound it yourself. And
a check of something that both regions share makes both unhealthy; an automatic switch then has
nowhere to go. Check what this region has for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import Logger
from typing import Any

Checks = Mapping[str, Callable[[], object]]


def results(
    checks: Checks, log: Logger, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """name -> status ("ok" or "failed"), milliseconds, detail."""
    found = {}
    for name, check in checks.items():
        began = clock()
        try:
            status, detail = "ok", str(check() or "")
        except Exception as error:
            log.warning("check %s failed", name, exc_info=True)
            status, detail = "failed", type(error).__name__
        milliseconds = round((clock() - began) * 1000, 1)
        found[name] = {"status": status, "milliseconds": milliseconds, "detail": detail}
    return found


def failed(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of what does not work."""
    return sorted(name for name, result in found.items() if result["status"] != "ok")

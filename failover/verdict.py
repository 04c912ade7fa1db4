"""What a run came to: pure functions from what happened to a status, an exit code and a report.

Two facts are kept apart, as in a drill: `status` says how far the tool came, `deviated` whether
what was seen afterwards differs from what was wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from failover import errors
from failover.errors import FailoverError

STATUSES: Mapping[int, str] = {
    errors.DONE: "completed",
    errors.FAILED: "failed",
    errors.USAGE: "not started",
    errors.REFUSED: "refused",
    errors.PRECONDITION: "not started",
    errors.PARTLY: "partly completed",
    errors.NO_ENDPOINT: "failed",
    errors.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    exit_code: int
    deviated: bool
    reasons: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return STATUSES[self.exit_code]


def settle(
    changed: Collection[str],
    failures: Mapping[str, FailoverError],
    unconfirmed: Mapping[str, str],
    left_out: Mapping[str, str],
) -> Verdict:
    """The verdict over services: those changed, failed, not confirmed, and left out of the plan.

    Refused or unmet with nothing changed keeps its own code; once something has been changed,
    whatever else went wrong makes it "partly done".
    """
    reasons = (
        *dict.fromkeys(str(error) for error in failures.values()),
        *(f"{name}: {why}" for name, why in (*unconfirmed.items(), *left_out.items())),
    )
    deviated = bool(failures or unconfirmed or left_out)
    if not deviated:
        return Verdict(errors.DONE, False)
    if changed or unconfirmed:
        return Verdict(errors.PARTLY, True, reasons)
    if failures:
        return Verdict(next(iter(failures.values())).exit_code, True, reasons)
    return Verdict(errors.PRECONDITION, True, reasons)

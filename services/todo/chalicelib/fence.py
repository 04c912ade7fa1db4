"""The write fence: which region may write, decided by one row of the database itself.

Each write reads the row with a share lock in its own transaction. Setting it takes the exclusive
lock, so a change returns only when the writes that saw the old row have ended.

Within an epoch the fence only closes (open, then draining); it is opened by a greater epoch, in the
region that becomes active. So (epoch, state) only moves forward, and a request that was delayed on
its way can never reopen what was drained after it was sent. The price: giving up a drain also
needs a new epoch.

It fences nothing while an old primary is cut off, because both databases then hold a row of their
own; the epoch in each row tells afterwards which side wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .errors import FenceConflict, WriteRefused
from .model import timestamp

OPEN = "open"
DRAINING = "draining"
MAX_EPOCH = 2**53 - 1
"""The greatest whole number that every JSON reader keeps exactly."""


@dataclass(frozen=True, slots=True)
class Fence:
    epoch: int
    active_region: str
    state: str
    updated_at: datetime | None = None

    def representation(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "active_region": self.active_region,
            "state": self.state,
            "updated_at": timestamp(self.updated_at) if self.updated_at else None,
        }

    def allows(self, region: str) -> bool:
        return self.active_region == region and self.state == OPEN

    def require(self, region: str) -> None:
        """Raises WriteRefused unless `region` may write."""
        if self.active_region != region:
            raise WriteRefused(f"{self.active_region} takes the writes", fence=self._short())
        if self.state != OPEN:
            raise WriteRefused("writes are stopped for a move", fence=self._short())

    def _short(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "active_region": self.active_region,
            "state": self.state,
        }


def agreed(current: Fence, wanted: Fence, region: str, now: datetime) -> Fence:
    """The fence to store when `region` is asked for `wanted`. Raises FenceConflict.

    The same wanted state again is agreed to, and stored again: each success proves a write.
    """
    reason = _refusal(current, wanted, region)
    if reason:
        raise FenceConflict(reason, fence=current.representation())
    return replace(wanted, updated_at=now)


def _refusal(current: Fence, wanted: Fence, region: str) -> str:
    if wanted.epoch < current.epoch:
        return f"epoch {wanted.epoch} is over; the fence is at {current.epoch}"
    if wanted.epoch == current.epoch:
        if wanted.active_region != current.active_region:
            return f"epoch {current.epoch} belongs to {current.active_region}; use a greater one"
        if wanted.state == OPEN and current.state == DRAINING:
            return f"epoch {current.epoch} is draining; open with a greater epoch"
        return ""
    if wanted.state == DRAINING:
        return f"draining keeps the epoch, which is {current.epoch}"
    if wanted.active_region != region:
        return f"only {wanted.active_region} itself opens the fence for {wanted.active_region}"
    return ""

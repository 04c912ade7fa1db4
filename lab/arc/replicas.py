"""Five replicas of one state: what each endpoint shows when, and how often it may be written to.

Accepted changes form one sequence. An endpoint shows a prefix of it that only grows: at once what
was written through it, and everything else `delay` seconds after it was accepted. That is
sequential consistency, as AWS describes the endpoints (page introduction-regions-routing).

Downside: real replicas differ from each other from one moment to the next; here the delay is the
same for all, so two endpoints that were not written to always agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lab.arc.rules import ClusterState

MUTATIONS_PER_SECOND = 3
"""Mutating calls per second and cluster endpoint (page routing-control.quotas)."""


class Replicas:
    """The states of all endpoints. Times are seconds of one clock, passed in."""

    def __init__(self, regions: Sequence[str], state: ClusterState, delay: float) -> None:
        self._delay = delay
        self._history: deque[tuple[int, float, ClusterState]] = deque([(0, float("-inf"), state)])
        self._seen = dict.fromkeys(regions, 0)

    @property
    def latest(self) -> ClusterState:
        """The consensus, on which updates are decided."""
        return self._history[-1][2]

    def accept(self, region: str | None, state: ClusterState, now: float) -> None:
        """A new consensus, written through one endpoint, or (None) given to all at once."""
        self._catch_up(now)
        number = self._history[-1][0] + 1
        self._history.append((number, now, state))
        for each in self._seen if region is None else (region,):
            self._seen[each] = number

    def view(self, region: str, now: float) -> ClusterState:
        """What this endpoint answers reads with; it never goes back to an earlier state."""
        self._catch_up(now)
        shown = self._seen[region]
        return next(state for number, _, state in self._history if number == shown)

    def lag(self, region: str, now: float) -> int:
        """How many accepted changes this endpoint does not show yet."""
        self._catch_up(now)
        return self._history[-1][0] - self._seen[region]

    def _catch_up(self, now: float) -> None:
        arrived = max((n for n, at, _ in self._history if at + self._delay <= now), default=0)
        for region, seen in self._seen.items():
            self._seen[region] = max(seen, arrived)
        while self._history[0][0] < min(self._seen.values()):
            self._history.popleft()


class MutationLimit:
    """The quota of mutating calls of one endpoint: a sliding window of one second."""

    def __init__(self) -> None:
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count this call and let it pass, or refuse it without counting."""
        while self._admitted and not 0 <= now - self._admitted[0] < 1:
            self._admitted.popleft()
        if len(self._admitted) >= MUTATIONS_PER_SECOND:
            return False
        self._admitted.append(now)
        return True

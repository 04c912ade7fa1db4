"""A total rate, shared evenly by all users.

Each user keeps a timetable of its own: request k is due at start + k x users / rate, with a random
start so that users do not march in step. A user that is late makes up for at most one request, so
that small delays do not lower the rate and long ones do not end in a burst.

The downside is that of every closed model: while a user waits for a time-out it sends nothing, so
during an outage fewer requests are sent than asked for. Ask for more users than rate x time-out
if that matters.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Pace:
    """The rate of the whole run, in requests per second; 0 means as fast as possible."""

    def __init__(self, rate: float, users: int) -> None:
        self.rate = rate
        self.users = max(users, 1)

    @property
    def period(self) -> float:
        """Seconds between two requests of one user; 0 when running free."""
        return self.users / self.rate if self.rate > 0 else 0.0


class Timetable:
    """When one user is due. Pure but for the clock and dice that are passed in."""

    def __init__(
        self,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._due = clock() + uniform(0.0, pace.period)

    def first_wait(self) -> float:
        """Seconds until the first request."""
        return max(0.0, self._due - self._clock())

    def next_wait(self) -> float:
        """Seconds until the next request; moves the timetable on by one."""
        period = self._pace.period
        now = self._clock()
        # After a long delay the missed requests are dropped, except one: no burst.
        self._due = max(self._due + period, now - period)
        return max(0.0, self._due - now)

"""Checks on CloudWatch alarms: each region is asked in turn what its alarms' data say.

It stands for Route 53's own copy of the metrics. A region that does not answer in time has, for
Route 53, not enough data; nothing else waits for it, each region is asked by a task of its own.
What the data said last is kept on disk, since a position is one data point and must hold.

Downside: it asks and is not told, so a change is seen up to `ASK_SECONDS`, scaled, later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.route53.health import Followed, HealthCheck, follow

ASK_SECONDS = 20.0
"""From one look to the next; the profile scales it like the alarms' periods."""

LIMIT_SECONDS = 60.0
"""A region that has not answered by then has no data; scaled, but never under `LEAST_LIMIT`."""

LEAST_LIMIT = 0.5

Ask = Callable[[str, Sequence[str]], Awaitable[Mapping[str, Mapping[str, str]]]]
"""(region, alarm names) -> name -> `now` and `last`. Raises LabError or OSError: no answer."""

OnChange = Callable[[str, str], None]
"""(health check id, reason): what is known of it has changed."""


class MetricFeed:
    """What every check on an alarm knows. Use inside a running event loop."""

    def __init__(
        self,
        checks: Mapping[str, HealthCheck],
        ask: Ask | None,
        scale: float,
        state_path: Path | None,
        on_change: OnChange,
    ) -> None:
        """`ask` None: nobody answers. `state_path` None: nothing is kept."""
        self._ask = ask
        self._pause = ASK_SECONDS * scale
        self._limit = max(LIMIT_SECONDS * scale, LEAST_LIMIT)
        self._state_path = state_path
        self._on_change = on_change
        self._by_alarm: dict[str, dict[str, list[str]]] = {}
        for check in checks.values():
            if check.alarm is not None:
                region, name = check.alarm
                self._by_alarm.setdefault(region, {}).setdefault(name, []).append(check.id)
        ids = [check.id for check in checks.values() if check.alarm is not None]
        kept = load_last(state_path) if state_path is not None else {}
        self.followed = {i: Followed(last=kept[i]) if i in kept else Followed() for i in ids}

    @property
    def regions(self) -> tuple[str, ...]:
        """Those whose alarms are followed."""
        return tuple(self._by_alarm)

    async def follow_forever(self, region: str) -> None:
        """Asks one region again and again."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._pause
            await self.look(region)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def look(self, region: str) -> None:
        """Asks one region once; never raises but on cancellation."""
        names = list(self._by_alarm[region])
        answer: Mapping[str, Mapping[str, str]] = {}
        try:
            if self._ask is not None:
                async with asyncio.timeout(self._limit):
                    answer = await self._ask(region, names)
        except (TimeoutError, OSError, LabError, ValueError):
            answer = {}
        self._take(region, answer)

    def _take(self, region: str, answer: Mapping[str, Mapping[str, str]]) -> None:
        changed: list[tuple[str, str]] = []
        before = dict(self.followed)
        for name, ids in self._by_alarm[region].items():
            given = answer.get(name)
            reading = None if given is None else Followed(given["now"], given["last"])
            for check_id in ids:
                after = follow(before[check_id], reading)
                if after != before[check_id]:
                    self.followed[check_id] = after
                    changed.append((check_id, f"alarm {name} in {region}: {after.now}"))
        if any(self.followed[i].last != before[i].last for i, _ in changed):
            self._keep()
        for check_id, reason in changed:
            self._on_change(check_id, reason)

    def _keep(self) -> None:
        if self._state_path is not None:
            save_last(self._state_path, {i: f.last for i, f in self.followed.items()})


def load_last(path: Path) -> dict[str, str]:
    """Health check id -> what its alarm's data said last. Raises LabError if it cannot be read."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(i): str(last) for i, last in document["last"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"the health checks' last known statuses in {path} cannot be read ({error}); restore "
            "the file, or remove it to start with none"
        ) from error


def save_last(path: Path, last: Mapping[str, str]) -> None:
    """All at once: a reader finds the old file or the new one. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({"last": dict(last)}, indent=1), encoding="utf-8")
    temporary.replace(path)

"""`CloudWatch`: the metrics and alarms of one region, and who may ask for them.

Nothing runs by itself: an alarm is brought up to date when somebody asks, by evaluating every
period since it was last asked. So the answer does not depend on how busy the machine is.

Downside: a state that nobody asks for is told to `on_event` late, with its right time inside.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.cloudwatch.alarms import Alarm, Metric, followed_alarms, read_alarms
from lab.cloudwatch.api import Api
from lab.cloudwatch.errors import ApiError
from lab.cloudwatch.evaluation import Point, Standing, advance, in_range
from lab.cloudwatch.requests import read_data, read_query
from lab.cloudwatch.store import Store
from lab.errors import LabError
from lab.model import Deployment

OnEvent = Callable[[dict[str, Any]], None]


class CloudWatch:
    """One region's. Use inside a running event loop."""

    def __init__(
        self,
        region: str,
        deployment: Deployment,
        scale: float,
        state_path: Path,
        clock: Callable[[], float] = time.time,
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        """`scale` multiplies every alarm's period. Raises CloudWatchError if what is in
        `state_path` cannot be read."""
        self.region = region
        self._scale = scale
        self._clock = clock
        self._on_event = on_event
        self._created_at = clock()
        self._alarms = read_alarms(deployment, region)
        self._followed = followed_alarms(deployment).get(region, ())
        self._watchers: dict[Metric, list[Alarm]] = {}
        for alarm in self._alarms.values():
            if alarm.metric is not None:
                self._watchers.setdefault(alarm.metric, []).append(alarm)
        self._store = Store(state_path)
        standings, data = self._store.load()
        self._standings = {name: standings.get(name, Standing()) for name in self._alarms}
        self._data = {metric: data.get(metric, []) for metric in self._watchers}
        self._operations: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "PutMetricData": self.put_metric_data,
            "DescribeAlarms": self.describe_alarms,
        }
        self._api = Api(region, self._operations)
        self._down: set[str] = set()
        self._listener: tuple[str, int] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (of use when 0 was asked for). Raises OSError."""
        port = await self._api.start(host, port)
        self._listener = (host, port)
        return port

    async def close(self) -> None:
        self._listener = None
        await self._api.close()

    async def set_down(self, reason: str, on: bool) -> None:
        """Refuse connections for this reason, or no longer for it."""
        before = bool(self._down)
        self._down = self._down | {reason} if on else self._down - {reason}
        if bool(self._down) == before or self._listener is None:
            return
        if self._down:
            self._api.abort()
        else:
            await self._api.start(*self._listener)

    # ---- calls

    def put_metric_data(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Publish. All data of a request count or none. Raises ApiError, CloudWatchError."""
        now = self._clock()
        published = [pair for pair in read_data(given, now) if pair[0] in self._data]
        watching = [alarm.name for metric, _ in published for alarm in self._watchers[metric]]
        if not published:
            return {}
        self._bring_up_to_date(watching, now, save=False)
        before = {metric: self._data[metric] for metric, _ in published}
        for metric, point in published:
            self._data[metric] = [*self._live(metric, now), point]
        try:
            self._store.save(self._standings, self._data)
        except LabError:
            self._data.update(before)
            raise
        for metric, point in published:
            self._tell("metric_published", metric=metric.name, stamp=point.at, value=point.highest,
                       dimensions=dict(sorted(metric.dimensions)))  # fmt: skip
        return {}

    def describe_alarms(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A page of alarms, sorted by name. Raises ApiError."""
        query = read_query(given)
        after = _from_token(query.after)
        names = [n for n in self._alarms if query.names is None or n in query.names]
        self._bring_up_to_date(names, self._clock())
        found = [
            name
            for name in names
            if query.wants_metric_alarms
            and name > after
            and name.startswith(query.prefix)
            and query.state in (None, self._standings[name].value)
            and self._has_action(name, query.action_prefix)
        ]
        answer: dict[str, Any] = {
            "MetricAlarms": [self._described(name) for name in found[: query.limit]],
            "CompositeAlarms": [],
        }
        if len(found) > query.limit:
            answer["NextToken"] = _token(found[query.limit - 1])
        return answer

    def readings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """What the data of these alarms say: `now`, and `last` when they last sufficed.

        It is not the alarms' states: Route 53 has its own copy of the data. Raises LabError while
        the region's CloudWatch is down or cut off.
        """
        if self._down:
            raise LabError(f"CloudWatch in {self.region} cannot be reached")
        known = [name for name in names if name in self._alarms]
        self._bring_up_to_date(known, self._clock())
        return {
            name: {"now": self._standings[name].stream, "last": self._standings[name].last}
            for name in known
        }

    def status(self) -> dict[str, Any]:
        """Ready for JSON: the alarms that health checks follow, and how many others there are."""
        followed = [name for name in self._followed if name in self._alarms]
        self._bring_up_to_date(followed, self._clock())
        return {
            "down": sorted(self._down),
            "alarms": {
                name: {
                    "state": self._standings[name].value,
                    "changed_at": self._standings[name].changed_at,
                }
                for name in followed
            },
            "other_alarms": len(self._alarms) - len(followed),
        }

    # ---- state

    def _bring_up_to_date(self, names: Iterable[str], now: float, save: bool = True) -> None:
        changed = False
        for name in names:
            alarm, before = self._alarms[name], self._standings[name]
            points = self._data.get(alarm.metric, ()) if alarm.metric else ()
            after = advance(alarm, before, points, now, self._scale)
            self._standings[name] = after
            changed |= (after.value, after.last) != (before.value, before.last)
            if after.value != before.value:
                self._tell("alarm_changed", alarm=name, before=before.value, after=after.value,
                           changed_at=after.changed_at, reason=after.reason)  # fmt: skip
        if changed and save:
            self._store.save(self._standings, self._data)

    def _live(self, metric: Metric, now: float) -> list[Point]:
        """The points that some alarm can still count."""
        return [
            point
            for point in self._data[metric]
            if any(in_range(alarm, point, now, self._scale) for alarm in self._watchers[metric])
        ]

    def _tell(self, kind: str, **what: Any) -> None:
        if self._on_event is not None:
            self._on_event({"kind": kind, "region": self.region, **what})

    def _has_action(self, name: str, prefix: str) -> bool:
        described = self._alarms[name].described
        actions = [
            *described["OKActions"],
            *described["AlarmActions"],
            *described["InsufficientDataActions"],
        ]
        return not prefix or any(str(action).startswith(prefix) for action in actions)

    def _described(self, name: str) -> dict[str, Any]:
        alarm, standing = self._alarms[name], self._standings[name]
        changed_at = standing.changed_at or self._created_at
        described: dict[str, Any] = {
            "AlarmName": name,
            "AlarmArn": alarm.arn,
            **{key: value for key, value in alarm.described.items() if value is not None},
            "StateValue": standing.value,
            "StateReason": standing.reason,
            "StateUpdatedTimestamp": changed_at,
            "StateTransitionedTimestamp": changed_at,
            "AlarmConfigurationUpdatedTimestamp": self._created_at,
            "Period": alarm.period,
            "EvaluationPeriods": alarm.evaluation_periods,
            "DatapointsToAlarm": alarm.datapoints_to_alarm,
            "Threshold": alarm.threshold,
            "ComparisonOperator": alarm.comparison,
            "TreatMissingData": alarm.treat_missing,
        }
        if alarm.unit is not None:
            described["Unit"] = alarm.unit
        if alarm.metric is not None:
            described |= {
                "Namespace": alarm.metric.namespace,
                "MetricName": alarm.metric.name,
                "Statistic": alarm.statistic,
                "Dimensions": [
                    {"Name": n, "Value": v} for n, v in sorted(alarm.metric.dimensions)
                ],
            }
        return described


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ApiError("InvalidNextToken", "Invalid nextToken") from None

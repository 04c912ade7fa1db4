"""What data points say about an alarm at a time. Pure, the time is passed in.

Time is cut into periods; all points whose time stamp lies in one make one value, by the alarm's
statistic. Only whole periods are looked at, so a point counts from the end of its period on. The
newest `EvaluationPeriods` values of a somewhat longer range are judged (CloudWatch User Guide,
"Configuring how CloudWatch alarms treat missing data"); what is missing is treated as the alarm
says.

`verdict` is the judgement of one moment, as Route 53 makes it from its own copy of the data;
`advance` adds the memory that an alarm has: `ignore` keeps its state.

Downside: AWS documents neither the moment of an evaluation nor how much longer the range is for a
given period. Both are fixed here: the end of each period, and `EXTRA_PERIODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lab.cloudwatch.alarms import Alarm

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

EXTRA_PERIODS = 4
"""So many periods more than an alarm evaluates are searched for data."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


@dataclass(frozen=True, slots=True)
class Point:
    """One datum, as published: a value, or a set of them already summed up."""

    at: float
    """Seconds since the epoch."""
    count: float
    total: float
    lowest: float
    highest: float
    unit: str = "None"


def single(at: float, value: float, unit: str = "None") -> Point:
    return Point(at, 1.0, value, value, value, unit)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an alarm stands."""

    value: State = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    changed_at: float = 0.0
    """When `value` became what it is."""
    evaluated_at: float = 0.0
    """End of the last period that was evaluated."""
    stream: State = "INSUFFICIENT_DATA"
    """What the data alone say now, with no memory but `last`."""
    last: State = "INSUFFICIENT_DATA"
    """What they said when they last sufficed."""


def aggregate(statistic: str, points: Sequence[Point]) -> float:
    """The value of one period."""
    count = sum(point.count for point in points)
    total = sum(point.total for point in points)
    match statistic:
        case "Maximum":
            return max(point.highest for point in points)
        case "Minimum":
            return min(point.lowest for point in points)
        case "Sum":
            return total
        case "SampleCount":
            return count
        case _:
            return total / count if count else 0.0


def verdict(alarm: Alarm, points: Sequence[Point], end: int, length: float) -> State | None:
    """What the periods before number `end` say; None: nothing that changes a state.

    `length`: of a period in seconds. Period n begins at n * length.
    """
    values = _values(alarm, points, end, length)
    breaching = [n for n, value in values.items() if is_breaching(alarm, value)]
    missing = alarm.evaluation_periods - len(values)
    least = alarm.datapoints_to_alarm
    if alarm.treat_missing == "breaching":
        return "ALARM" if len(breaching) + missing >= least else "OK"
    if alarm.treat_missing == "notBreaching" or len(breaching) >= least:
        return "ALARM" if len(breaching) >= least else "OK"
    if len(breaching) + missing < least:
        return "OK"
    if alarm.treat_missing == "ignore":
        return None
    if not values:
        return "INSUFFICIENT_DATA"
    old_enough = bool(breaching) and end - min(breaching) >= least
    return "ALARM" if old_enough and len(breaching) == len(values) else None


def is_breaching(alarm: Alarm, value: float) -> bool:
    compare = _COMPARE.get(alarm.comparison)
    return compare is not None and compare(value, alarm.threshold)


def advance(
    alarm: Alarm, before: Standing, points: Sequence[Point], now: float, scale: float = 1.0
) -> Standing:
    """The alarm at `now`, every period since `before` evaluated in turn.

    However rarely it is called, the result is the same. `points`: of the alarm's metric, at least
    those within its range at `before`. `scale` multiplies the alarm's period.
    """
    length = alarm.period * scale
    end = math.floor(now / length)
    done = math.floor(before.evaluated_at / length + 0.5)
    if end <= done or alarm.metric is None:
        return before
    standing = before
    past = [n for n in (math.floor(p.at / length) for p in points) if n < end]
    if past:  # from where data come into range to where they have left it
        first = max(done + 1, min(past) + 1)
        last = min(end - 1, max(past) + 1 + _reach(alarm))
        for step in range(first, last + 1):
            standing = _evaluated(alarm, standing, points, step, length)
    return _evaluated(alarm, standing, points, end, length)


def in_range(alarm: Alarm, point: Point, now: float, scale: float = 1.0) -> bool:
    """Can the point still count after an evaluation at `now`?"""
    length = alarm.period * scale
    return math.floor(point.at / length) >= math.floor(now / length) - _reach(alarm)


def _reach(alarm: Alarm) -> int:
    return alarm.evaluation_periods + EXTRA_PERIODS


def _values(
    alarm: Alarm, points: Sequence[Point], end: int, length: float
) -> dict[int, float]:
    """The newest values in range, by number of the period."""
    periods: dict[int, list[Point]] = {}
    for point in points:
        number = math.floor(point.at / length)
        if end - _reach(alarm) <= number < end and alarm.unit in (None, point.unit):
            periods.setdefault(number, []).append(point)
    newest = sorted(periods, reverse=True)[: alarm.evaluation_periods]
    return {number: aggregate(alarm.statistic, periods[number]) for number in newest}


def _evaluated(
    alarm: Alarm, before: Standing, points: Sequence[Point], end: int, length: float
) -> Standing:
    found = verdict(alarm, points, end, length)
    stream: State = found if found is not None else "INSUFFICIENT_DATA"
    after = replace(
        before,
        evaluated_at=end * length,
        stream=stream,
        last=stream if stream != "INSUFFICIENT_DATA" else before.last,
    )
    if found is None or found == before.value:
        return after
    values = list(_values(alarm, points, end, length).values())
    return replace(
        after, value=found, changed_at=end * length, reason=_reason(alarm, found, values)
    )


def _reason(alarm: Alarm, state: State, values: Sequence[float]) -> str:
    """In CloudWatch's manner; nothing may rely on the wording."""
    if state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {alarm.evaluation_periods} datapoints were unknown."
    were = "was" if len(values) == 1 else "were"
    negation = "" if state == "ALARM" else " not"
    told = ", ".join(str(value) for value in values) or "none"
    return (
        f"Threshold Crossed: {len(values)} datapoint{'s' * (len(values) != 1)} [{told}] "
        f"{were}{negation} {_in_words(alarm.comparison)} the threshold ({alarm.threshold})."
    )


def _in_words(comparison: str) -> str:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in comparison).strip()
    return words.removesuffix(" threshold")

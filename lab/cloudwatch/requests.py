"""The parameters of `PutMetricData` and `DescribeAlarms`, checked and read. Pure.

Source: the API reference's pages of the two operations, of `MetricDatum` and of `Dimension`, and
botocore's model. botocore checks presence and minimum lengths before it sends; all else is checked
here. As on AWS the first fault found is told, not all.

Downside: the texts of the refusals are in CloudWatch's manner and not its own; rely on the codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.cloudwatch.alarms import Metric
from lab.cloudwatch.errors import ApiError
from lab.cloudwatch.evaluation import Point

MAX_DATA = 1000
MAX_VALUES = 150
MAX_DIMENSIONS = 30
PAST_SECONDS = 14 * 86_400
FUTURE_SECONDS = 2 * 3600
_LARGEST = 2.0**360
_SIZES = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_BITS = ("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits")
UNITS = frozenset({
    "Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None",
    *_SIZES, *_BITS, *(f"{unit}/Second" for unit in (*_SIZES, *_BITS)),
})  # fmt: skip
STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")
ALARM_TYPES = ("CompositeAlarm", "MetricAlarm", "LogAlarm")
_ASCII = range(32, 127)

Members = Mapping[str, Any]


def invalid(name: str, why: str) -> ApiError:
    return ApiError(
        "InvalidParameterValue",
        f"The value for parameter {name} is invalid: {why}",
        shape="InvalidParameterValueException",
    )


def missing(name: str) -> ApiError:
    return ApiError(
        "MissingParameter",
        f"The parameter {name} is required.",
        shape="MissingRequiredParameterException",
    )


def contradiction(first: str, second: str) -> ApiError:
    return ApiError(
        "InvalidParameterCombination",
        f"The parameters {first} and {second} are mutually exclusive and you have specified both.",
        shape="InvalidParameterCombinationException",
    )


# ---- PutMetricData


def read_data(given: Members, now: float) -> list[tuple[Metric, Point]]:
    """What is published. Raises ApiError; then nothing of the request counts."""
    namespace = _text(given, "Namespace", "Namespace", 255)
    if namespace.startswith("AWS/"):
        raise invalid("Namespace", 'a namespace that begins with "AWS/" is reserved')
    if namespace.startswith(":"):
        raise invalid("Namespace", "it begins with a colon")
    if given.get("EntityMetricData"):
        raise invalid("EntityMetricData", "entities are not imitated")
    data = _list(given, "MetricData", "MetricData")
    if not data:
        raise missing("MetricData")
    if len(data) > MAX_DATA:
        raise invalid("MetricData", f"more than {MAX_DATA} metrics in one request")
    return [
        _datum(namespace, datum, f"MetricData.member.{number}", now)
        for number, datum in enumerate(data, 1)
    ]


def _datum(namespace: str, given: Any, at: str, now: float) -> tuple[Metric, Point]:
    datum = _structure(given, at)
    metric = Metric(
        namespace,
        _text(datum, "MetricName", f"{at}.MetricName", 255),
        frozenset(_dimensions(datum, f"{at}.Dimensions")),
    )
    unit = str(datum.get("Unit", "None"))
    if unit not in UNITS:
        raise invalid(f"{at}.Unit", f"{unit!r} is no unit")
    if datum.get("StorageResolution", 60) not in (1, 60):
        raise invalid(f"{at}.StorageResolution", "it is neither 1 nor 60")
    stamp = _stamp(datum, f"{at}.Timestamp", now)
    count, total, lowest, highest = _statistics(datum, at)
    return metric, Point(stamp, count, total, lowest, highest, unit)


def _dimensions(datum: Members, at: str) -> Iterator[tuple[str, str]]:
    given = _list(datum, "Dimensions", at)
    if len(given) > MAX_DIMENSIONS:
        raise invalid(at, f"more than {MAX_DIMENSIONS} dimensions")
    seen: set[str] = set()
    for number, item in enumerate(given, 1):
        where = f"{at}.member.{number}"
        dimension = _structure(item, where)
        name = _text(dimension, "Name", f"{where}.Name", 255)
        value = _text(dimension, "Value", f"{where}.Value", 1024)
        if name.startswith(":"):
            raise invalid(f"{where}.Name", "it begins with a colon")
        if name in seen:
            raise invalid(at, f"the dimension {name} is given twice")
        seen.add(name)
        yield name, value


def _stamp(datum: Members, at: str, now: float) -> float:
    if datum.get("Timestamp") is None:
        return now
    stamp = _number(datum["Timestamp"], at)
    if not now - PAST_SECONDS <= stamp <= now + FUTURE_SECONDS:
        raise invalid(at, "it is more than two weeks in the past or two hours in the future")
    return stamp


def _statistics(datum: Members, at: str) -> tuple[float, float, float, float]:
    """Sample count, sum, minimum and maximum of one datum."""
    kinds = [key for key in ("Value", "Values", "StatisticValues") if datum.get(key) is not None]
    if not kinds:
        raise missing(f"{at}.Value")
    if len(kinds) > 1:
        raise contradiction(f"{at}.{kinds[0]}", f"{at}.{kinds[1]}")
    if kinds == ["Value"]:
        value = _number(datum["Value"], f"{at}.Value")
        return 1.0, value, value, value
    if kinds == ["Values"]:
        return _of_values(datum, at)
    given = _structure(datum["StatisticValues"], f"{at}.StatisticValues")
    names = ("SampleCount", "Sum", "Minimum", "Maximum")
    for name in names:
        if given.get(name) is None:
            raise missing(f"{at}.StatisticValues.{name}")
    found = [_number(given[name], f"{at}.StatisticValues.{name}") for name in names]
    if found[0] < 0 or found[2] > found[3]:
        raise invalid(f"{at}.StatisticValues", "the numbers contradict each other")
    return found[0], found[1], found[2], found[3]


def _of_values(datum: Members, at: str) -> tuple[float, float, float, float]:
    values = [_number(v, f"{at}.Values") for v in _list(datum, "Values", f"{at}.Values")]
    counts = [_number(c, f"{at}.Counts") for c in _list(datum, "Counts", f"{at}.Counts")]
    if not values or len(values) > MAX_VALUES:
        raise invalid(f"{at}.Values", f"it has not between 1 and {MAX_VALUES} values")
    counts = counts or [1.0] * len(values)
    if len(counts) != len(values) or min(counts) < 0:
        raise invalid(f"{at}.Counts", "it does not go with Values")
    total = sum(value * count for value, count in zip(values, counts, strict=True))
    return sum(counts), total, min(values), max(values)


# ---- DescribeAlarms


@dataclass(frozen=True, slots=True)
class AlarmQuery:
    """Which alarms are asked for."""

    names: tuple[str, ...] | None
    prefix: str
    state: str | None
    action_prefix: str
    wants_metric_alarms: bool
    limit: int
    after: str
    """The name after which to go on; empty for the beginning."""


def read_query(given: Members) -> AlarmQuery:
    """Raises ApiError."""
    names = _list(given, "AlarmNames", "AlarmNames")
    if len(names) > 100:
        raise invalid("AlarmNames", "more than 100 names")
    prefix = _optional(given, "AlarmNamePrefix")
    if names and prefix:
        raise contradiction("AlarmNames", "AlarmNamePrefix")
    for key in ("ChildrenOfAlarmName", "ParentsOfAlarmName"):
        if given.get(key):
            raise invalid(key, "composite alarms are not imitated")
    types = _list(given, "AlarmTypes", "AlarmTypes") or ["MetricAlarm"]
    if unknown := [kind for kind in types if kind not in ALARM_TYPES]:
        raise invalid("AlarmTypes", f"{unknown[0]!r} is no type of alarm")
    state = given.get("StateValue")
    if state is not None and state not in STATES:
        raise invalid("StateValue", f"{state!r} is no state")
    limit = given.get("MaxRecords", 50)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 100:
        raise invalid("MaxRecords", "it is not within 1 and 100")
    return AlarmQuery(
        tuple(map(str, names)) or None,
        prefix,
        state,
        _optional(given, "ActionPrefix"),
        "MetricAlarm" in types,
        limit,
        _optional(given, "NextToken"),
    )


# ---- members


def _structure(value: Any, at: str) -> Members:
    if not isinstance(value, dict):
        raise ApiError("SerializationException", f"{at} is not a structure")
    return value


def _list(given: Members, key: str, at: str) -> Sequence[Any]:
    value = given.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ApiError("SerializationException", f"{at} is not a list")
    return value


def _text(given: Members, key: str, at: str, longest: int) -> str:
    value = given.get(key)
    if value is None or value == "":
        raise missing(at)
    if not isinstance(value, str):
        raise ApiError("SerializationException", f"{at} is not a string")
    if len(value) > longest:
        raise invalid(at, f"it has more than {longest} characters")
    if any(ord(c) not in _ASCII for c in value) or value.isspace():
        raise invalid(at, "it has characters that are not printable ASCII")
    return value


def _optional(given: Members, key: str) -> str:
    value = given.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ApiError("SerializationException", f"{key} is not a string")
    return value


def _number(value: Any, at: str) -> float:
    """JSON has no NaN and no infinities: botocore sends their names."""
    if value in ("NaN", "Infinity", "-Infinity"):
        raise invalid(at, f"{value} is no value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError("SerializationException", f"{at} is not a number")
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise invalid(at, "it is not within -2^360 and 2^360")
    return float(value)

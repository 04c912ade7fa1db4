"""What data points make of an alarm, as pure functions of alarm, points and time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.cloudwatch.alarms import Alarm, Metric
from lab.cloudwatch.evaluation import (
    EXTRA_PERIODS,
    Point,
    Standing,
    advance,
    aggregate,
    in_range,
    single,
    verdict,
)

TAKE_OVER = Alarm(
    name="a",
    arn="arn",
    metric=Metric("TwoRegionApi", "TakeOver", frozenset()),
    statistic="Maximum",
    period=60,
    evaluation_periods=1,
    datapoints_to_alarm=1,
    threshold=1.0,
    comparison="GreaterThanOrEqualToThreshold",
    treat_missing="ignore",
    unit=None,
    described={},
)
NEVER = Standing()


def at(*published: tuple[float, float]) -> list[Point]:
    return [single(when, value) for when, value in published]


def state(published: list[Point], now: float, alarm: Alarm = TAKE_OVER) -> str:
    return advance(alarm, NEVER, published, now).value


@pytest.mark.semantics(70)
def test_a_point_counts_from_the_end_of_its_period_on() -> None:
    taken = at((130.0, 1.0))
    assert state(taken, 179.9) == "INSUFFICIENT_DATA"
    assert state(taken, 180.0) == "ALARM"
    assert advance(TAKE_OVER, NEVER, taken, 500.0).changed_at == 180.0


@pytest.mark.semantics(71)
def test_ignored_missing_data_keep_the_state_for_ever() -> None:
    assert state(at((130.0, 1.0)), 1e9) == "ALARM"
    assert state(at((130.0, 0.0)), 1e9) == "OK"
    assert state([], 1e9) == "INSUFFICIENT_DATA"


@pytest.mark.semantics(70)
def test_two_positions_in_one_period_are_its_maximum_and_the_next_period_decides_anew() -> None:
    assert state(at((130.0, 1.0), (140.0, 0.0)), 180.0) == "ALARM"
    assert state(at((130.0, 0.0), (140.0, 1.0)), 180.0) == "ALARM"
    assert state(at((130.0, 1.0), (140.0, 0.0), (190.0, 0.0)), 240.0) == "OK"


@pytest.mark.semantics(70)
def test_what_the_data_say_is_forgotten_and_what_they_said_last_is_not() -> None:
    standing = advance(TAKE_OVER, NEVER, at((130.0, 1.0)), 180.0)
    assert (standing.stream, standing.last) == ("ALARM", "ALARM")
    later = advance(TAKE_OVER, standing, at((130.0, 1.0)), 180.0 + 60 * EXTRA_PERIODS + 60)
    assert (later.stream, later.last, later.value) == ("INSUFFICIENT_DATA", "ALARM", "ALARM")


@pytest.mark.semantics(71)
@pytest.mark.parametrize(
    ("seen", "missing", "ignore", "breaching", "not_breaching"),
    [  # the table of "Configuring how CloudWatch alarms treat missing data", 3 out of 3, range 5
        ("0-X-X", "OK", "OK", "OK", "OK"),
        ("----0", "OK", "OK", "OK", "OK"),
        ("-----", "INSUFFICIENT_DATA", None, "ALARM", "OK"),
        ("0XX-X", "ALARM", "ALARM", "ALARM", "ALARM"),
        ("--X--", "ALARM", None, "ALARM", "OK"),
    ],
)
def test_missing_data(
    seen: str, missing: str, ignore: str | None, breaching: str, not_breaching: str
) -> None:
    alarm = replace(TAKE_OVER, evaluation_periods=3, datapoints_to_alarm=3)
    points = [
        single(60.0 * n + 1, 1.0 if kind == "X" else 0.0)
        for n, kind in enumerate(seen, 10)
        if kind != "-"
    ]
    for treat, expected in (
        ("missing", missing), ("ignore", ignore), ("breaching", breaching),
        ("notBreaching", not_breaching),
    ):  # fmt: skip
        found = verdict(replace(alarm, treat_missing=treat), points, 15, 60.0)
        assert found == expected, treat


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("Maximum", 5.0), ("Minimum", -1.0), ("Sum", 9.0), ("SampleCount", 4.0), ("Average", 2.25)],
)
def test_statistics_over_values_and_sets_of_values(statistic: str, expected: float) -> None:
    points = [Point(0.0, 3.0, 4.0, -1.0, 3.0), single(1.0, 5.0)]
    assert aggregate(statistic, points) == expected


def test_a_unit_that_the_alarm_names_is_the_only_one_that_counts() -> None:
    alarm = replace(TAKE_OVER, unit="Count")
    assert state(at((130.0, 1.0)), 180.0, alarm) == "INSUFFICIENT_DATA"
    assert state([single(130.0, 1.0, "Count")], 180.0, alarm) == "ALARM"


@pytest.mark.parametrize(
    ("comparison", "alarms"),
    [
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("GreaterThanThreshold", [False, False, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_comparisons(comparison: str, alarms: list[bool]) -> None:
    alarm = replace(TAKE_OVER, comparison=comparison)
    assert [state(at((1.0, v)), 60.0, alarm) == "ALARM" for v in (0.5, 1.0, 1.5)] == alarms


def test_the_reason_names_the_value_and_the_threshold() -> None:
    reason = advance(TAKE_OVER, NEVER, at((1.0, 1.0)), 60.0).reason
    assert reason == (
        "Threshold Crossed: 1 datapoint [1.0] was greater than or equal to the threshold (1.0)."
    )


def test_an_alarm_on_an_expression_stays_as_it_is() -> None:
    assert state(at((1.0, 1.0)), 600.0, replace(TAKE_OVER, metric=None)) == "INSUFFICIENT_DATA"


published = st.lists(
    st.tuples(st.floats(0, 3000), st.sampled_from([0.0, 1.0])), min_size=0, max_size=12
)
ALARMS = st.builds(
    replace,
    st.just(TAKE_OVER),
    treat_missing=st.sampled_from(["missing", "ignore", "breaching", "notBreaching"]),
    evaluation_periods=st.integers(1, 3),
    datapoints_to_alarm=st.just(1),
    statistic=st.sampled_from(["Maximum", "Minimum", "Average"]),
)


@settings(max_examples=80, deadline=None)
@given(alarm=ALARMS, points=published, looks=st.lists(st.floats(0, 4000), max_size=8),
       scale=st.sampled_from([1.0, 0.005]))  # fmt: skip
def test_how_often_an_alarm_is_looked_at_does_not_change_it(
    alarm: Alarm, points: list[tuple[float, float]], looks: list[float], scale: float
) -> None:
    data = [single(when * scale, value) for when, value in points]
    often = NEVER
    for now in sorted(looks):
        often = advance(alarm, often, data, now * scale, scale)
    once = advance(alarm, NEVER, data, 5000 * scale, scale)
    often = advance(alarm, often, data, 5000 * scale, scale)
    assert (often.value, often.stream, often.last) == (once.value, once.stream, once.last)


@settings(max_examples=80, deadline=None)
@given(points=published)
def test_a_take_over_alarm_is_the_maximum_of_the_last_period_with_data(
    points: list[tuple[float, float]],
) -> None:
    by_period: dict[int, float] = {}
    for when, value in points:
        by_period[int(when // 60)] = max(value, by_period.get(int(when // 60), 0.0))
    expected = "INSUFFICIENT_DATA"
    if by_period:
        expected = "ALARM" if by_period[max(by_period)] == 1.0 else "OK"
    assert state(at(*points), 1e6) == expected


@settings(max_examples=80, deadline=None)
@given(points=published, cut=st.floats(0, 4000))
def test_points_out_of_range_can_be_forgotten(
    points: list[tuple[float, float]], cut: float
) -> None:
    data = at(*points)
    standing = advance(TAKE_OVER, NEVER, data, cut)
    kept = [point for point in data if in_range(TAKE_OVER, point, cut)]
    assert advance(TAKE_OVER, standing, kept, 1e6) == advance(TAKE_OVER, standing, data, 1e6)

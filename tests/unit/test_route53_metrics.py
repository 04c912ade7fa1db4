"""Checks on CloudWatch alarms: what their status follows from, and how the data come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.route53.health import (
    Checker,
    Followed,
    HealthCheck,
    Knowledge,
    follow,
    is_healthy,
    metric_healthy,
)
from lab.route53.metrics import MetricFeed, load_last, save_last

NO_DATA = "INSUFFICIENT_DATA"
READINGS = st.none() | st.sampled_from([
    Followed("OK", "OK"), Followed("ALARM", "ALARM"), Followed(NO_DATA, NO_DATA),
    Followed(NO_DATA, "OK"), Followed(NO_DATA, "ALARM"),
])  # fmt: skip


@pytest.mark.semantics(73)
@pytest.mark.parametrize(("now", "healthy"), [("OK", True), ("ALARM", False)])
@pytest.mark.parametrize("setting", ["Healthy", "Unhealthy", "LastKnownStatus"])
def test_ok_is_healthy_and_alarm_is_not_whatever_is_set(
    now: str, healthy: bool, setting: str
) -> None:
    assert metric_healthy(Followed(now, now), setting) is healthy


@pytest.mark.semantics(74)
@pytest.mark.parametrize(
    ("setting", "last", "healthy"),
    [
        ("Healthy", "ALARM", True),
        ("Unhealthy", "OK", False),
        ("LastKnownStatus", "OK", True),
        ("LastKnownStatus", "ALARM", False),
        ("LastKnownStatus", NO_DATA, True),
    ],
)
def test_without_enough_data_the_setting_decides(setting: str, last: str, healthy: bool) -> None:
    assert metric_healthy(Followed(NO_DATA, last), setting) is healthy


@pytest.mark.semantics(74)
@given(readings=st.lists(READINGS, max_size=20))
def test_last_known_status_is_that_of_the_last_data_that_sufficed(
    readings: list[Followed | None],
) -> None:
    followed = Followed()
    for reading in readings:
        followed = follow(followed, reading)
    known = [r.last for r in readings if r is not None and r.last != NO_DATA]
    assert metric_healthy(followed, "LastKnownStatus") is (known[-1:] != ["ALARM"])
    enough = readings and readings[-1] is not None and readings[-1].now != NO_DATA
    for setting, otherwise in (("Healthy", True), ("Unhealthy", False)):
        expected = known[-1] == "OK" if enough else otherwise
        assert metric_healthy(followed, setting) is expected


@pytest.mark.semantics(73, 75)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("state", ["OK", "ALARM", NO_DATA])
def test_inverted_and_disabled_as_with_other_checks(
    state: str, inverted: bool, disabled: bool
) -> None:
    check = metric("m", inverted=inverted, disabled=disabled)
    known = Knowledge({"m": check}, {}, {}, {"m": Followed(state, state)})
    assert is_healthy("m", known) is (disabled or (state != "ALARM") != inverted)


@pytest.mark.semantics(75)
@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("taken", [True, False])
def test_two_of_two_is_an_endpoint_that_answers_and_is_not_taken_over(
    endpoint: bool, taken: bool
) -> None:
    checks = {
        "both": HealthCheck("both", "CALCULATED", children=("https", "m"), health_threshold=2),
        "https": HealthCheck("https", "HTTPS", ip_address="127.0.0.1", port=443),
        "m": metric("m"),
    }
    state = "ALARM" if taken else NO_DATA
    checkers = {"https": [Checker(region, healthy=endpoint) for region in "abc"]}
    known = Knowledge(checks, {}, checkers, {"m": Followed(NO_DATA, state)})
    assert is_healthy("both", known) is (endpoint and not taken)


def metric(check_id: str, region: str = "west", name: str = "", **given: Any) -> HealthCheck:
    return HealthCheck(check_id, "CLOUDWATCH_METRIC", alarm=(region, name or check_id), **given)


class Regions:
    """What each region answers; an exception is raised, None hangs."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def __call__(self, region: str, names: Sequence[str]) -> Any:
        self.asked.append((region, tuple(names)))
        answer = self.answers[region]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Fed:
    def __init__(self, regions: Regions | None, path: Path | None, *checks: HealthCheck) -> None:
        self.changes: list[str] = []
        self.feed = MetricFeed(
            {check.id: check for check in checks}, regions, 0.0001, path,
            lambda check_id, reason: self.changes.append(f"{check_id}: {reason}"),
        )  # fmt: skip


ALARM = {"now": "ALARM", "last": "ALARM"}


@pytest.mark.semantics(73)
async def test_each_region_is_asked_for_all_its_alarms_at_once() -> None:
    regions = Regions(east={"a": {"now": "OK", "last": "OK"}}, west={"b": ALARM})
    checks = (metric("a", "east"), metric("b"), metric("c", name="b"), HealthCheck("t", "TCP"))
    fed = Fed(regions, None, *checks)
    assert fed.feed.regions == ("east", "west")
    for region in fed.feed.regions:
        await fed.feed.look(region)
    assert regions.asked == [("east", ("a",)), ("west", ("b",))]
    assert fed.changes == [
        "a: alarm a in east: OK", "b: alarm b in west: ALARM", "c: alarm b in west: ALARM",
    ]  # fmt: skip
    assert fed.feed.followed["c"] == Followed("ALARM", "ALARM")
    await fed.feed.look("west")
    assert len(fed.changes) == 3, "nothing has changed"


@pytest.mark.semantics(76)
@pytest.mark.parametrize(
    "silence",
    [ConnectionRefusedError(), socket.gaierror(), LabError("cut"), ValueError("no JSON"), {}, None],
)
async def test_a_region_that_does_not_answer_has_not_enough_data(silence: Any) -> None:
    regions = Regions(west={"m": ALARM})
    fed = Fed(regions, None, metric("m"))
    await fed.feed.look("west")
    regions.answers["west"] = silence
    await asyncio.wait_for(fed.feed.look("west"), 5)
    assert fed.feed.followed["m"] == Followed(NO_DATA, "ALARM")


async def test_without_anybody_to_ask_there_is_never_enough() -> None:
    fed = Fed(None, None, metric("m"))
    await fed.feed.look("west")
    assert (fed.changes, fed.feed.followed["m"]) == ([], Followed())


@pytest.mark.semantics(77)
async def test_what_was_known_last_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "route53.json"
    checks = (metric("a"), metric("b"))
    await Fed(Regions(west={"a": ALARM}), path, *checks).feed.look("west")
    again = Fed(Regions(west=ConnectionRefusedError()), path, *checks)
    await again.feed.look("west")
    assert again.feed.followed == {"a": Followed(NO_DATA, "ALARM"), "b": Followed()}
    assert Fed(None, path, metric("other")).feed.followed == {"other": Followed()}


@pytest.mark.parametrize("text", ["{", "[]", '{"last": []}', "{}"])
def test_an_unreadable_memory_is_said_to_be_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "route53.json"
    save_last(path, {"a": "OK"})
    assert load_last(path) == {"a": "OK"}
    path.write_text(text)
    with pytest.raises(LabError, match="remove it"):
        load_last(path)

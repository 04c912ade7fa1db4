"""Reading recovery.json, judging single answers, pacing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.answer import BadAnswer, answering_region
from loadtest.errors import InputError
from loadtest.pacing import Pace, Timetable
from loadtest.recovery import Service, load, parse

REGIONS = ("us-east-1", "us-west-2")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "regions": list(REGIONS),
        "services": {
            "service1": {"host": "service1.example.test"},
            "todo": {"host": "todo.example.test", "database": {}},
            "api": {"host": "api.example.test"},
        },
        **changes,
    }


def test_services_are_all_entries_but_the_external_api() -> None:
    recovery = parse(document(), Path("/somewhere/recovery.json"))
    assert recovery.services == (Service("service1", False), Service("todo", True))
    assert recovery.api_host == "api.example.test"
    assert recovery.primary == "us-east-1"
    assert recovery.name_servers == ()
    assert recovery.ca_file == ""


def test_ca_file_is_relative_to_the_recovery_file(tmp_path: Path) -> None:
    file = tmp_path / "recovery.json"
    file.write_text(
        json.dumps(document(tls={"ca_file": "ca.pem"}, dns={"name_servers": ["127.0.0.1:1053"]}))
    )
    recovery = load(file)
    assert recovery.ca_file == str(tmp_path / "ca.pem")
    assert recovery.name_servers == ("127.0.0.1:1053",)


def test_all_faults_of_the_file_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse({"version": 2, "regions": [], "services": {"api": {}}, "dns": []}, Path("r.json"))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "version is 2; this program reads version 1",
        "regions must be a list of region names, the primary first",
        "services names nothing but api",
        "dns must be an object",
    ]


@pytest.mark.parametrize(("text", "reason"), [(None, "cannot be read"), ("{", "not JSON")])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "recovery.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        load(file)
    assert str(file) in str(caught.value)


GOOD_BODY = b'{"service": "service1", "region": "us-west-2"}'


def test_a_good_answer_gives_its_region() -> None:
    assert answering_region("service1", REGIONS, 200, "us-west-2", GOOD_BODY) == "us-west-2"


@pytest.mark.parametrize(
    ("status", "header", "body", "reason"),
    [
        (503, "us-west-2", GOOD_BODY, "HTTP 503"),
        (200, None, GOOD_BODY, "200 without X-Region"),
        (200, "eu-west-1", GOOD_BODY, "200 with an unknown region in X-Region"),
        (200, "us-west-2", b"<html>", "200 whose body is not JSON"),
        (200, "us-west-2", b"\xff\xfe", "200 whose body is not JSON"),
        (200, "us-west-2", b"[]", "200 whose body is not a JSON object"),
        (200, "us-east-1", GOOD_BODY, "200 whose body and X-Region name different regions"),
        (200, "us-west-2", b'{"region": "us-west-2"}', "200 from another service"),
    ],
)
def test_a_bad_answer_gives_its_reason(
    status: int, header: str | None, body: bytes, reason: str
) -> None:
    with pytest.raises(BadAnswer) as caught:
        answering_region("service1", REGIONS, status, header, body)
    assert str(caught.value) == reason


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(st.floats(0, 0.09), min_size=20, max_size=40),
    st.integers(1, 50),
    st.floats(0, 1),
)
@settings(max_examples=50)
def test_the_rate_is_kept_whatever_single_requests_take(
    durations: list[float], users: int, dice: float
) -> None:
    clock = Clock()
    pace = Pace(rate=users * 10.0, users=users)
    timetable = Timetable(pace, clock, lambda low, high: low + dice * (high - low))
    clock.now += timetable.first_wait()
    started = clock.now
    for duration in durations:
        clock.now += duration
        clock.now += timetable.next_wait()
    # All durations are below the period of 0.1 s, so request k is due exactly k periods later.
    assert clock.now - started == pytest.approx(0.1 * len(durations))


def test_after_a_long_wait_one_request_is_made_up_for_not_all() -> None:
    clock = Clock()
    timetable = Timetable(Pace(1.0, 1), clock, lambda low, high: low)
    clock.now = 10.0
    assert timetable.next_wait() == 0.0
    assert timetable.next_wait() == 0.0
    assert timetable.next_wait() == 1.0


def test_without_a_rate_nobody_waits() -> None:
    timetable = Timetable(Pace(0.0, 30), Clock())
    assert timetable.first_wait() == timetable.next_wait() == 0.0

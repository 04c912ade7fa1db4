"""The verdict and the numbers of a run, from made-up runs whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.errors import InputError
from loadtest.evidence import judge, main
from loadtest.moves import course, kill_before, outages, parse, phases
from loadtest.record import Record
from loadtest.report import report

EAST, WEST = "us-east-1", "us-west-2"
REGIONS = (EAST, WEST)
SERVICES = ("health", "service1", "service2")
START = 1_700_000_000.0
LENGTH = 60.0
SETTLE = 2.0
Where = Callable[[str, float], str]
"""(service, seconds from the start) → region that answers, or "" for a failed request"""

THERE = {
    "kind": "planned_move",
    "service": "service1",
    "from": EAST,
    "to": WEST,
    "commanded_at": START + 10,
    "ended_at": START + 11,
}
BACK = {**THERE, "from": WEST, "to": EAST, "commanded_at": START + 20, "ended_at": START + 21}
KILL = {"kind": "region_killed", "from": EAST, "commanded_at": START + 30}
AWAY = {
    "kind": "evacuation",
    "services": ["api", *SERVICES],
    "from": EAST,
    "to": WEST,
    "commanded_at": START + 32,
    "ended_at": START + 34,
}
RESTORED = {"kind": "region_restored", "from": EAST, "commanded_at": START + 45}
DEMO = [THERE, BACK, KILL, AWAY, RESTORED]


def demo(service: str, second: float) -> str:
    """What a run of DEMO looks like when everything works."""
    if 30 <= second < 34.5:
        return ""
    if second >= 34.5 or (service == "service1" and 10.9 <= second < 20.7):
        return WEST
    return EAST


def run(where: Where, services: tuple[str, ...] = SERVICES, every: float = 0.05) -> dict[str, Any]:
    """A report of one request per service each `every` seconds."""
    record = Record()
    for service in services:
        for number in range(round(LENGTH / every)):
            second = number * every
            region = where(service, second)
            if region == "none":
                continue
            if region:
                record.good(service, region, START + second)
            else:
                record.failed(service, "HTTP 504", START + second)
    return report(record, services, REGIONS, START, START + LENGTH, {})


def judged(where: Where, moves: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return judge(run(where, **options), parse(moves, REGIONS), SETTLE)


def but(where: Where, service: str, start: float, end: float, region: str) -> Where:
    """The same, except that `service` answers from `region` between `start` and `end`."""
    return lambda name, second: (
        region if name == service and start <= second < end else where(name, second)
    )


def test_a_good_run_passes_with_exact_numbers() -> None:
    evidence = judged(demo, DEMO)
    assert (evidence["verdict"], evidence["reasons"]) == ("passed", [])
    service1 = evidence["services"]["service1"]
    assert service1["requests"] == 1200
    assert service1["failed"] == 90
    assert service1["by_region"] == {EAST: 404, WEST: 706}
    there, back, kill, away, restored = service1["events"]
    assert there == {
        "kind": "planned_move",
        "from": EAST,
        "to": WEST,
        "commanded_at": START + 10,
        "ended_at": START + 11,
        "first_new_region_at": pytest.approx(START + 10.9),
        "last_old_region_at": pytest.approx(START + 10.85),
        "rto_seconds": pytest.approx(0.9),
        "failed_requests": 0,
    }
    assert (back["from"], back["to"]) == (WEST, EAST)
    assert back["rto_seconds"] == pytest.approx(0.7)
    # After a kill the time counts from the kill, in both entries; failed requests count once.
    assert kill["rto_seconds"] == away["rto_seconds"] == pytest.approx(4.5)
    assert (kill["failed_requests"], away["failed_requests"]) == (40, 50)
    assert away["last_old_region_at"] == pytest.approx(START + 29.95)
    assert restored["rto_seconds"] is None
    assert restored["failed_requests"] == 0


def test_a_service_that_was_not_told_has_only_the_events_of_its_region() -> None:
    events = judged(demo, DEMO)["services"]["health"]["events"]
    assert [event["kind"] for event in events] == ["region_killed", "evacuation", "region_restored"]


def test_moves_of_the_external_api_show_failed_requests_of_all_services() -> None:
    evidence = judged(demo, DEMO)
    assert "api" not in evidence["services"]
    (event,) = evidence["api"]["events"]
    assert event["kind"] == "evacuation"
    assert event["first_new_region_at"] is None
    assert event["failed_requests"] == 150


def test_steady_traffic_without_moves_passes() -> None:
    assert judged(lambda service, second: EAST, [])["verdict"] == "passed"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (
            but(demo, "service2", 14, 14.1, WEST),
            "service2 answered 2 times from us-west-2, where it was not expected "
            "(first 14.00 s after the start)",
        ),
        (
            but(demo, "service1", 9.95, 10, WEST),
            "service1 answered once from us-west-2, where it was not expected "
            "(first 9.95 s after the start)",
        ),
        (
            but(demo, "service1", 14, 14.15, EAST),
            "service1 answered 3 times from us-east-1, where it was not expected "
            "(first 14.00 s after the start)",
        ),
        (
            but(demo, "health", 50, 50.05, EAST),
            "health answered once from us-east-1, where it was not expected "
            "(first 50.00 s after the start)",
        ),
        (
            but(demo, "service1", 10.5, 10.55, ""),
            "1 request of service1 failed after the move of service1 to us-west-2 (planned)",
        ),
        (
            but(demo, "service2", 22, 22.1, ""),
            "2 requests of service2 failed after the move of service1 to us-east-1 (planned)",
        ),
        (
            but(demo, "health", 5, 5.05, ""),
            "1 request of health failed before anything was commanded",
        ),
        (
            but(demo, "health", 40, 40.05, ""),
            "1 request of health failed after the evacuation of us-east-1 to us-west-2",
        ),
        (
            but(demo, "health", 55, 55.05, ""),
            "1 request of health failed after the restoration of us-east-1",
        ),
        (
            but(demo, "service2", 10, 20, "none"),
            "no sample of service2 in the 10.0 s after the move of service1 to us-west-2",
        ),
    ],
)
def test_each_fault_is_the_one_reason_for_a_failed_verdict(where: Where, reason: str) -> None:
    evidence = judged(where, DEMO)
    assert evidence["verdict"] == "failed"
    assert evidence["reasons"] == [reason]


def test_a_service_without_any_sample_fails() -> None:
    reasons = judged(but(demo, "service2", 0, 60, "none"), DEMO)["reasons"]
    assert reasons == [
        "no sample of service2",
        "service2 was never seen in us-west-2 after it was sent there (evacuation)",
    ]


def test_a_move_that_never_arrives_fails() -> None:
    evidence = judged(lambda service, second: EAST, [THERE])
    assert evidence["verdict"] == "failed"
    assert (
        "service1 was never seen in us-west-2 after it was sent there (planned_move)"
        in evidence["reasons"]
    )
    assert evidence["services"]["service1"]["events"][0]["rto_seconds"] is None


def test_answers_of_the_old_region_are_in_order_until_the_move_has_settled() -> None:
    late = but(demo, "service1", 12.9, 12.95, EAST)
    assert judged(late, DEMO)["verdict"] == "passed"
    evidence = judge(run(late), parse(DEMO, REGIONS), settle=1.0)
    assert evidence["verdict"] == "failed"
    first_event = judged(late, DEMO)["services"]["service1"]["events"][0]
    assert first_event["last_old_region_at"] == pytest.approx(START + 12.9)


def test_an_evacuation_of_a_living_region_may_lose_nothing() -> None:
    def where(service: str, second: float) -> str:
        return EAST if second < 33 else WEST

    evidence = judged(where, [AWAY])
    assert evidence["verdict"] == "passed"
    assert evidence["services"]["health"]["events"][0]["rto_seconds"] == pytest.approx(1.0)
    assert judged(but(where, "health", 32.5, 32.55, ""), [AWAY])["verdict"] == "failed"


def test_a_service_that_lives_elsewhere_is_not_moved_by_an_evacuation() -> None:
    def where(service: str, second: float) -> str:
        if 30 <= second < 34.5:
            return ""  # the door was in the killed region
        return WEST if second >= 34.5 or (service == "service1" and second >= 10.9) else EAST

    evidence = judged(where, [THERE, KILL, AWAY])
    assert evidence["verdict"] == "passed"
    _, kill, away = evidence["services"]["service1"]["events"]
    assert kill["rto_seconds"] is None
    assert away["first_new_region_at"] is None
    assert away["failed_requests"] == 50


def test_a_region_that_hangs_gives_no_samples_between_kill_and_evacuation() -> None:
    def where(service: str, second: float) -> str:
        return "none" if 30 <= second < 34 else demo(service, second)

    assert judged(where, DEMO)["verdict"] == "passed"


def test_lost_workers_and_moves_without_traffic_fail() -> None:
    document = run(demo)
    document["workers"] = {"reported": 1, "missing": 1}
    late = {**RESTORED, "commanded_at": START + 70}
    evidence = judge(document, parse([*DEMO, late], REGIONS), SETTLE)
    assert evidence["reasons"] == [
        "the last counts of workers are missing: 1",
        "restoration of us-east-1: commanded while there was no traffic",
    ]


def test_a_load_test_that_never_ran_fails() -> None:
    empty = report(Record(), SERVICES, REGIONS, None, None, {})
    evidence = judge(empty, (), SETTLE)
    assert evidence["verdict"] == "failed"
    assert "the load test was never started" in evidence["reasons"]


def test_a_move_from_where_the_service_was_not_is_a_contradiction() -> None:
    with pytest.raises(InputError, match="service1 is said to have been moved from us-west-2"):
        judged(demo, [BACK])


def test_a_command_within_a_tenth_of_a_second_is_never_early() -> None:
    record = Record()
    for offset in (0.01, 0.03, 0.08):
        record.good("health", EAST, START + 10 + offset)
    record.good("health", EAST, START + 1)
    record.good("health", WEST, START + 10.02)
    record.good("health", WEST, START + 10.09)
    document = report(record, ["health"], REGIONS, START, START + 11, {})
    move = {**THERE, "service": "health", "commanded_at": START + 10.05}
    evidence = judge(document, parse([move], REGIONS), SETTLE)
    event = evidence["services"]["health"]["events"][0]
    assert event["first_new_region_at"] == START + 10.09
    # The answer before the command was untold, and is found although it shares its bucket.
    assert any("answered once from us-west-2" in reason for reason in evidence["reasons"])


moves_of_one = st.lists(
    st.tuples(st.floats(1, 50), st.floats(0, 5)), max_size=5, unique_by=lambda move: move[0]
)


@given(moves_of_one, st.floats(0, 60))
@settings(max_examples=60)
def test_the_expected_region_is_always_allowed_and_others_only_while_draining(
    plan: list[tuple[float, float]], second: float
) -> None:
    plan = sorted(plan)
    documents = [
        {**THERE, "from": REGIONS[i % 2], "to": REGIONS[(i + 1) % 2]}
        | {"commanded_at": START + at, "ended_at": START + at + took}
        for i, (at, took) in enumerate(plan)
    ]
    where = course("service1", parse(documents, REGIONS), EAST, SETTLE)
    at = START + second
    done = [move for move in plan if START + move[0] <= at]
    assert where.expected(at) == REGIONS[len(done) % 2]
    assert where.expected(at) in where.allowed(at)
    if all(START + start + took + SETTLE <= at for start, took in done):
        assert where.allowed(at) == {where.expected(at)}


def test_phases_join_a_kill_and_its_evacuation() -> None:
    moves = parse(DEMO, REGIONS)
    cut = phases(moves, START, START + LENGTH)
    assert [(round(a - START), round(b - START)) for _, a, b in cut] == [
        (0, 10),
        (10, 20),
        (20, 30),
        (30, 45),
        (45, 60),
    ]


def test_an_outage_ends_with_evacuation_or_restoration_or_never() -> None:
    kill, away, restored = parse([KILL, AWAY, RESTORED], REGIONS)
    assert outages((kill, away, restored), SETTLE) == [(START + 30, START + 36)]
    assert outages((kill, restored), SETTLE) == [(START + 30, START + 47)]
    assert outages((kill,), SETTLE) == [(START + 30, float("inf"))]
    assert kill_before(away, (kill, away)) is kill
    assert kill_before(away, (away,)) is None


def test_all_faults_of_the_moves_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse(
            [
                {"kind": "jump"},
                {"kind": "planned_move", "from": "mars", "to": WEST, "commanded_at": "now"},
                {**THERE, "ended_at": START},
                7,
            ],
            REGIONS,
        )
    assert caught.value.problems == (
        "move 0: kind is 'jump'; known are planned_move, region_killed, evacuation, "
        "region_restored",
        "move 1: commanded_at must be a number of seconds",
        "move 1: ended_at must be a number of seconds",
        "move 1: from is 'mars'; the regions are us-east-1, us-west-2",
        "move 1: a planned move names its service or services",
        "move 2: ended_at is before commanded_at",
        "move 3: must be a JSON object",
    )


@pytest.mark.parametrize(("moves", "code"), [(DEMO, 0), ([*DEMO[:1]], 1), ([BACK], 2), ({}, 2)])
def test_the_command_writes_its_files_and_exits_with_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], moves: Any, code: int
) -> None:
    (tmp_path / "load.json").write_text(json.dumps(run(demo)))
    (tmp_path / "moves.json").write_text(json.dumps(moves))
    arguments = ["--report", str(tmp_path / "load.json"), "--moves", str(tmp_path / "moves.json")]
    arguments += ["--json", str(tmp_path / "out" / "demo.json"), "--settle", str(SETTLE)]
    arguments += ["--html", str(tmp_path / "out" / "demo.html")]
    assert main(arguments) == code
    said = capsys.readouterr()
    if code == 2:
        assert said.err
        assert not (tmp_path / "out").exists()
        return
    verdict = ["passed", "failed"][code]
    assert f"verdict: {verdict}" in said.out
    assert json.loads((tmp_path / "out" / "demo.json").read_text())["verdict"] == verdict
    assert f"Verdict: {verdict}" in (tmp_path / "out" / "demo.html").read_text()


def test_the_command_refuses_what_is_not_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "moves.json").write_text("[]")
    (tmp_path / "load.json").write_text('{"services": {}}')
    for name in ("load.json", "absent.json"):
        arguments = ["--report", str(tmp_path / name), "--moves", str(tmp_path / "moves.json")]
        assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "not a load-test report, regions, timeline" in said
    assert "absent.json: cannot be read" in said

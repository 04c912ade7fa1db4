"""The status of health checks, as pure functions of switches and checkers' opinions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.route53.health import (
    CHECKER_REGIONS,
    Checker,
    HealthCheck,
    Knowledge,
    dependants,
    enough_healthy,
    is_healthy,
    observe,
)
from lab.route53.probes import host_header
from lab.route53.reading import read_check


def known(*checks: HealthCheck, on: tuple[str, ...] = (), **checkers: list[Checker]) -> Knowledge:
    return Knowledge({c.id: c for c in checks}, dict.fromkeys(on, True), checkers)


@pytest.mark.semantics(37)
@pytest.mark.parametrize(
    ("on", "inverted", "disabled", "healthy"),
    [
        (True, False, False, True),
        (False, False, False, False),
        (True, True, False, False),
        (False, True, False, True),
        (False, False, True, True),
        (False, True, True, True),
        (True, True, True, True),
    ],
)
def test_recovery_control(on: bool, inverted: bool, disabled: bool, healthy: bool) -> None:
    check = HealthCheck("h", "RECOVERY_CONTROL", inverted, disabled, routing_control="arn")
    assert is_healthy("h", known(check, on=("arn",) if on else ())) is healthy


@pytest.mark.semantics(45)
@pytest.mark.parametrize(
    ("threshold", "children_on", "healthy"),
    [
        (0, 0, True),
        (1, 0, False),
        (1, 1, True),
        (2, 1, False),
        (2, 2, True),
        (3, 3, True),
        (4, 3, False),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_calculated(threshold: int, children_on: int, healthy: bool, inverted: bool) -> None:
    children = [
        HealthCheck(f"c{i}", "RECOVERY_CONTROL", routing_control=f"arn{i}") for i in range(3)
    ]
    parent = HealthCheck(
        "p",
        "CALCULATED",
        inverted,
        children=tuple(c.id for c in children),
        health_threshold=threshold,
    )
    on = tuple(f"arn{i}" for i in range(children_on))
    assert is_healthy("p", known(parent, *children, on=on)) is (healthy != inverted)


@pytest.mark.semantics(45)
def test_calculated_of_calculated_and_who_depends_on_whom() -> None:
    leaf = HealthCheck("leaf", "RECOVERY_CONTROL", inverted=True, routing_control="arn")
    middle = HealthCheck("middle", "CALCULATED", children=("leaf",), health_threshold=1)
    top = HealthCheck("top", "CALCULATED", children=("middle", "leaf"), health_threshold=2)
    assert is_healthy("top", known(leaf, middle, top)) is True
    assert is_healthy("top", known(leaf, middle, top, on=("arn",))) is False
    reached = dependants({c.id: c for c in (leaf, middle, top)})
    assert set(reached["leaf"]) == {"leaf", "middle", "top"}
    assert reached["top"] == ("top",)


@pytest.mark.semantics(46)
@pytest.mark.parametrize(
    ("healthy", "of", "enough"),
    [
        (1, 8, False),
        (2, 8, True),
        (0, 8, False),
        (8, 8, True),
        (1, 3, True),
        (1, 5, True),
        (1, 6, False),
    ],
)
def test_more_than_18_percent(healthy: int, of: int, enough: bool) -> None:
    checkers = [Checker(f"r{i}", healthy=i < healthy) for i in range(of)]
    assert enough_healthy(checkers) is enough


@pytest.mark.semantics(46)
def test_threshold_is_of_consecutive_results_in_both_directions() -> None:
    checker = Checker("us-east-1")
    history = []
    for passed in (False, False, True, False, False, False, True, True, False, True, True, True):
        checker = observe(checker, passed, "seen", 3)
        history.append(checker.healthy)
    assert history == [True] * 5 + [False] * 6 + [True]
    assert checker.probes == 12
    assert checker.last == "seen"


@settings(max_examples=60, deadline=None)
@given(results=st.lists(st.booleans(), max_size=30), threshold=st.integers(1, 10))
def test_opinion_is_the_last_run_long_enough(results: list[bool], threshold: int) -> None:
    checker = Checker("us-east-1")
    for passed in results:
        checker = observe(checker, passed, "", threshold)
    expected = True
    for end in range(threshold, len(results) + 1):
        run = set(results[end - threshold : end])
        if len(run) == 1:
            expected = run.pop()
    assert checker.healthy is expected


@pytest.mark.semantics(47)
@pytest.mark.parametrize(("inverted", "healthy"), [(False, True), (True, False)])
def test_new_check_before_data(inverted: bool, healthy: bool) -> None:
    check = HealthCheck("h", "HTTP", inverted, ip_address="127.0.0.1", port=80)
    new = [Checker(region) for region in CHECKER_REGIONS]
    assert is_healthy("h", known(check, h=new)) is healthy
    failing = [observe(c, False, "", check.threshold) for c in new]
    assert is_healthy("h", known(check, h=failing)) is healthy, "one result is not enough data"
    for _ in range(2):
        failing = [observe(c, False, "", check.threshold) for c in failing]
    assert is_healthy("h", known(check, h=failing)) is not healthy


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"Type": "HTTP", "FullyQualifiedDomainName": "A.example.test."}, "a.example.test"),
        ({"Type": "HTTPS", "FullyQualifiedDomainName": "a.example.test"}, "a.example.test"),
        (
            {"Type": "HTTP", "FullyQualifiedDomainName": "a.example.test", "Port": 443},
            "a.example.test:443",
        ),
        ({"Type": "HTTPS", "IPAddress": "127.0.0.1", "Port": "8443"}, "127.0.0.1:8443"),
        ({"Type": "HTTP_STR_MATCH", "IPAddress": "::1"}, "[::1]"),
    ],
)
def test_host_header(config: dict[str, object], expected: str) -> None:
    assert host_header(read_check("h", config)) == expected

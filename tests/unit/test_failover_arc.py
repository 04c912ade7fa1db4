"""The rotation over the endpoints, with a clock that the test turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from failover_fakes import ARC_REGIONS, EAST, WEST, FakeArc, control, fake_world, make_recovery

from failover.arc import CONSISTENCY, Cluster, Reading
from failover.arc_transport import judge
from failover.aws import seconds
from failover.errors import (
    CallRejected,
    CredentialsError,
    NoEndpointError,
    SafetyRuleRefusal,
)
from failover.events import Events
from failover.plan import SPACING
from failover.ports import EndpointFailed

KNOWN = make_recovery("service1")
WANTED = {control("service1", EAST): False, control("service1", WEST): True}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arc() -> FakeArc:
    return fake_world(KNOWN).arc


def make_cluster(arc: FakeArc, clock: Clock, seed: int = 1) -> Cluster:
    return Cluster(
        KNOWN.cluster_endpoints,
        arc,
        Events(),
        rng=random.Random(seed),
        clock=clock,
        sleep=clock.sleep,
    )


def failing(error: Callable[[], Exception], *moments: str) -> Callable[[str], Exception | None]:
    return lambda moment: error() if not moments or moment in moments else None


def test_the_first_endpoint_is_another_one_each_time(arc: FakeArc, clock: Clock) -> None:
    for seed in range(30):
        make_cluster(arc, clock, seed).update(WANTED)
    assert {region for region, _ in arc.updates} == set(ARC_REGIONS)


@pytest.mark.semantics(61)
@pytest.mark.parametrize("seed", range(6))
def test_two_endpoints_down_cost_one_attempt_each(arc: FakeArc, clock: Clock, seed: int) -> None:
    down = ("us-east-1", "eu-west-1")
    arc.down(*down)
    accepted = make_cluster(arc, clock, seed).update(WANTED)
    assert accepted.endpoint not in down
    tried = [region for region, _ in arc.updates]
    assert len(tried) == len(set(tried)) == accepted.attempts <= 3
    assert clock.slept == []


def test_an_endpoint_that_failed_a_read_is_asked_last(arc: FakeArc, clock: Clock) -> None:
    down = ("us-east-1", "eu-west-1")
    arc.down(*down)
    for seed in range(10):
        cluster = make_cluster(arc, clock, seed)
        cluster.read()
        assert cluster.update(WANTED).attempts == 1


@pytest.mark.semantics(63)
@pytest.mark.parametrize(
    "final",
    [
        SafetyRuleRefusal("no", "service1-at-most-one", "arn:x"),
        CallRejected("AccessDeniedException", "no"),
        CallRejected("ValidationException", "no"),
        CallRejected("ResourceNotFoundException", "no"),
        CallRejected("ServiceLimitExceededException", "no"),
        CredentialsError("none"),
    ],
)
def test_what_all_would_say_stops_at_once(arc: FakeArc, clock: Clock, final: Exception) -> None:
    for region in ARC_REGIONS:
        arc.faults[region] = failing(lambda: final, "update")
    with pytest.raises(type(final)):
        make_cluster(arc, clock).update(WANTED)
    assert len(arc.updates) == 1
    assert clock.slept == []


@pytest.mark.semantics(62)
def test_all_down_gives_every_cause_after_the_deadline(arc: FakeArc, clock: Clock) -> None:
    arc.down()
    with pytest.raises(NoEndpointError) as caught:
        make_cluster(arc, clock).update(WANTED, deadline=3)
    assert sorted(caught.value.reasons) == sorted(f"{r}: connection refused" for r in ARC_REGIONS)
    assert len(arc.updates) > 5, "there was more than one round"
    assert sum(clock.slept) <= 3


def test_retry_after_is_honoured_between_rounds(arc: FakeArc, clock: Clock) -> None:
    def throttled(moment: str) -> Exception | None:
        if clock.now < 102 and moment == "update":
            return EndpointFailed("ThrottlingException", retry_after=2.0)
        return None

    arc.faults = dict.fromkeys(ARC_REGIONS, throttled)
    accepted = make_cluster(arc, clock).update(WANTED)
    assert accepted.attempts == 6
    assert 2.0 in clock.slept


def test_updates_keep_within_the_quota_of_an_endpoint(arc: FakeArc, clock: Clock) -> None:
    arc.down("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1")
    cluster = make_cluster(arc, clock)
    cluster.read()
    times = []
    for _ in range(7):
        cluster.update(WANTED)
        times.append(clock.now)
    assert all(b - a >= SPACING - 1e-9 for a, b in pairwise(times))
    assert all(sum(t <= at < t + 1 for at in times) <= 3 for t in times)


def test_many_updates_go_round_the_endpoints(arc: FakeArc, clock: Clock) -> None:
    cluster = make_cluster(arc, clock)
    cluster.read_until_answered()
    cluster._answered = set(ARC_REGIONS)
    for number in range(5):
        cluster.update(WANTED, first=number)
    assert {region for region, _ in arc.updates} == set(ARC_REGIONS)
    assert clock.slept == []


@pytest.mark.semantics(66)
def test_a_time_out_and_then_success_is_success(arc: FakeArc, clock: Clock) -> None:
    lost = failing(lambda: EndpointFailed("no answer", ambiguous=True), "updated")
    for region in ARC_REGIONS[:4]:
        arc.faults[region] = lost
    accepted = make_cluster(arc, clock).update(WANTED)
    assert accepted.endpoint == ARC_REGIONS[4]
    assert arc.states == WANTED


@pytest.mark.semantics(66)
def test_a_refusal_after_a_time_out_is_read_back_first(arc: FakeArc, clock: Clock) -> None:
    """The first attempt was applied but not answered; a wait period refuses the repeat."""

    def lost_then_waiting(moment: str) -> Exception | None:
        if moment == "updated":
            arc.refusing.add("service1")
            return EndpointFailed("no answer within 2 s", ambiguous=True)
        return None

    arc.faults = dict.fromkeys(ARC_REGIONS, lost_then_waiting)
    accepted = make_cluster(arc, clock).update(WANTED)
    assert accepted.ambiguous
    assert len(arc.updates) == 2
    assert arc.states == WANTED


def test_a_refusal_after_a_time_out_that_did_nothing_is_a_refusal(
    arc: FakeArc, clock: Clock
) -> None:
    def lost(moment: str) -> Exception | None:
        if moment == "update" and not arc.refusing:
            arc.refusing.add("service1")
            return EndpointFailed("no answer within 2 s", ambiguous=True)
        return None

    arc.faults = dict.fromkeys(ARC_REGIONS, lost)
    with pytest.raises(SafetyRuleRefusal):
        make_cluster(arc, clock).update(WANTED)


def test_an_update_of_which_every_answer_is_lost_is_found_by_reading(
    arc: FakeArc, clock: Clock
) -> None:
    lost = failing(lambda: EndpointFailed("no answer", ambiguous=True), "updated")
    arc.faults = dict.fromkeys(ARC_REGIONS, lost)
    assert make_cluster(arc, clock).update(WANTED).ambiguous


@pytest.mark.semantics(65)
def test_read_back_waits_for_three_that_agree_and_no_longer_than_the_bound(
    arc: FakeArc, clock: Clock
) -> None:
    old = dict(arc.states)
    arc.states.update(WANTED)
    arc.stale = {region: old for region in ARC_REGIONS[:3]}
    began = clock.now
    reading = make_cluster(arc, clock).read_back(WANTED)
    assert len(reading.agreeing(WANTED)) < 3
    assert CONSISTENCY - 2 <= clock.now - began <= CONSISTENCY

    arc.stale = {region: old for region in ARC_REGIONS[:2]}
    reading = make_cluster(arc, clock).read_back(WANTED)
    assert len(reading.agreeing(WANTED)) == 3


def test_endpoints_that_disagree_make_a_state_disputed() -> None:
    reading = Reading({"a": {"x": True, "y": True}, "b": {"x": False, "y": True}, "c": {"y": True}})
    assert reading.agreed() == {"x": None, "y": True}
    assert reading.disagreements() == {"x": {"a": True, "b": False}}
    assert reading.agreeing({"x": True, "y": True}) == ["a"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ConflictException", SafetyRuleRefusal),
        ("ValidationException", CallRejected),
        ("AccessDeniedException", CallRejected),
        ("ResourceNotFoundException", CallRejected),
        ("ServiceLimitExceededException", CallRejected),
        ("ExpiredTokenException", CredentialsError),
        ("UnrecognizedClientException", CredentialsError),
        ("ThrottlingException", EndpointFailed),
        ("InternalServerException", EndpointFailed),
        ("EndpointTemporarilyUnavailableException", EndpointFailed),
        ("502", EndpointFailed),
        ("", EndpointFailed),
    ],
)
@pytest.mark.semantics(8)
def test_errors_are_judged_by_their_code(code: str, expected: type[Exception]) -> None:
    assert type(judge(KNOWN, code, "text", None, None)) is expected


def test_a_refusal_names_the_rule() -> None:
    arn = KNOWN.services["service1"].safety_rules["service1-at-most-one"]
    error = judge(KNOWN, "ConflictException", "failed rule evaluation", arn, None)
    assert "service1-at-most-one" in str(error)
    assert arn in str(error)
    unknown = judge(KNOWN, "ConflictException", "another change is under way", None, None)
    assert "another change is under way" in str(unknown)


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("", None), ("1", 1.0), ("0.5", 0.5), ("-3", 0.0), ("Wed, 21 Oct", None)],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert seconds(header) == expected

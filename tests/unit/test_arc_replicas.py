"""What five endpoints show when, and how often one may be written to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.arc.replicas import MutationLimit, Replicas
from lab.arc.rules import ClusterState

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")


def numbered(number: int) -> ClusterState:
    """States that can be told apart and ordered."""
    return ClusterState(frozenset(), {"n": float(number)})


@pytest.mark.semantics(10)
def test_a_write_is_seen_at_once_where_written_and_elsewhere_after_the_delay() -> None:
    replicas = Replicas(REGIONS, numbered(0), 5.0)
    replicas.accept("eu-west-1", numbered(1), 100.0)
    assert replicas.latest == numbered(1)
    assert replicas.view("eu-west-1", 100.0) == numbered(1)
    assert replicas.view("us-east-1", 104.9) == numbered(0)
    assert replicas.lag("us-east-1", 104.9) == 1
    assert all(replicas.view(region, 105.0) == numbered(1) for region in REGIONS)
    assert replicas.lag("us-east-1", 105.0) == 0


def test_the_labs_own_change_is_seen_everywhere_at_once() -> None:
    replicas = Replicas(REGIONS, numbered(0), 5.0)
    replicas.accept(None, numbered(1), 100.0)
    assert all(replicas.view(region, 100.0) == numbered(1) for region in REGIONS)


def test_history_is_forgotten_even_when_nobody_reads() -> None:
    replicas = Replicas(REGIONS, numbered(0), 5.0)
    for number in range(1, 200):
        replicas.accept("us-east-1", numbered(number), number * 10.0)
    assert len(replicas._history) < 4


@pytest.mark.semantics(10, 11)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(REGIONS), st.floats(-2, 4)),
        min_size=1,
        max_size=40,
    )
)
def test_reads_never_go_backwards_and_all_endpoints_agree_in_the_end(
    steps: list[tuple[bool, str, float]],
) -> None:
    """Writes and reads anywhere, with a clock that even steps back."""
    replicas = Replicas(REGIONS, numbered(0), 5.0)
    now, written = 100.0, 0
    seen = dict.fromkeys(REGIONS, 0.0)
    for is_write, region, pause in steps:
        now += pause
        if is_write:
            written += 1
            replicas.accept(region, numbered(written), now)
            assert replicas.view(region, now) == numbered(written)
        shown = replicas.view(region, now).changed_at["n"]
        assert shown >= seen[region]
        seen[region] = shown
    assert all(replicas.view(r, now + 100) == numbered(written) for r in REGIONS)


@pytest.mark.semantics(15)
def test_three_mutating_calls_in_any_second() -> None:
    limit = MutationLimit()
    assert [limit.admit(at) for at in (100.0, 100.3, 100.6, 100.9)] == [True, True, True, False]
    assert [limit.admit(at) for at in (101.0, 101.1, 101.3)] == [True, False, True]


def test_a_clock_that_steps_back_does_not_lock_an_endpoint() -> None:
    limit = MutationLimit()
    assert all(limit.admit(100.0) for _ in range(3))
    assert limit.admit(50.0)

from __future__ import annotations

from itertools import pairwise

import pytest
from failover_fakes import ARC_REGIONS, EAST, WEST, control, make_recovery
from hypothesis import given
from hypothesis import strategies as st

from failover import plan
from failover.errors import UsageError
from failover.plan import Request, States

KNOWN = make_recovery("service1", "service2", "api")
NAMES = tuple(KNOWN.services)
CONTROLS = [control(name, region) for name in NAMES for region in (EAST, WEST)]


def states_with(*on: str) -> dict[str, bool | None]:
    return {arn: arn in on for arn in CONTROLS}


@pytest.mark.parametrize(
    ("east", "west", "source", "needed"),
    [
        (True, False, "us-east-1", True),
        (False, True, "us-west-2", False),
        (False, False, "none (all Off)", True),
        (True, True, "us-east-1 and us-west-2 (both On)", True),
        (None, True, "disputed", True),
        (False, None, "disputed", True),
    ],
)
def test_a_move_sets_wanted_states_whatever_they_were(
    east: bool | None, west: bool | None, source: str, needed: bool
) -> None:
    states: States = {control("service1", EAST): east, control("service1", WEST): west}
    made = plan.make_plan(KNOWN, states, Request("move", ("service1",), WEST))
    (move,) = made.moves if needed else made.settled
    assert move.needed is needed
    assert move.source == source
    assert {e.arn: e.wanted for e in move.entries} == {
        control("service1", EAST): False,
        control("service1", WEST): True,
    }


def test_an_evacuation_takes_all_services_and_leaves_those_that_have_left() -> None:
    states = states_with(control("service1", EAST), control("service2", WEST), control("api", EAST))
    made = plan.make_plan(KNOWN, states, Request("evacuate", NAMES, WEST, EAST))
    assert [m.service.name for m in made.moves] == ["service1", "api"]
    assert [m.service.name for m in made.settled] == ["service2"]


def test_a_service_in_a_third_region_is_not_moved_by_an_evacuation() -> None:
    from failover_fakes import document

    from failover import recovery

    given_document = document("service1")
    given_document["regions"].append("eu-west-1")
    entry = given_document["services"]["service1"]
    entry["routing_controls"]["eu-west-1"] = control("service1", "eu-west-1")
    entry["pinned"]["eu-west-1"] = "https://service1.eu-west-1.example.test"
    known = recovery.parse(given_document, KNOWN.path)
    states = {
        arn: region == "eu-west-1"
        for region, arn in known.services["service1"].routing_controls.items()
    }
    made = plan.make_plan(known, states, Request("evacuate", ("service1",), WEST, EAST))
    assert not made.moves
    assert made.settled[0].target == "eu-west-1"
    with pytest.raises(UsageError, match="say --to"):
        plan.check_request(known, (), None, EAST)


def test_a_service_with_a_database_is_left_out_unless_it_is_there() -> None:
    known = make_recovery("service1", databases=("todo",))
    service = known.services["todo"]
    assert service.database is not None
    both = {**service.routing_controls}, {**service.database.routing_controls}
    states = {arn: region == EAST for controls in both for region, arn in controls.items()}
    there = plan.make_plan(known, states, Request("move", ("todo",), EAST))
    assert [m.service.name for m in there.settled] == ["todo"]
    assert len(there.settled[0].entries) == 4
    away = plan.make_plan(known, states, Request("move", ("todo",), WEST))
    assert not away.moves
    assert away.left_out[0][0] == "todo"


def test_wrong_names_are_reported_together_with_the_right_ones() -> None:
    with pytest.raises(UsageError) as caught:
        plan.check_request(KNOWN, ["servce1", "service2", "x"], "us-esat-1")
    text = str(caught.value)
    assert "no service 'servce1'; known are api, service1, service2" in text
    assert "no service 'x'" in text
    assert "no region 'us-esat-1'; known are us-east-1, us-west-2" in text
    with pytest.raises(UsageError, match="cannot be evacuated to itself"):
        plan.check_request(KNOWN, (), EAST, EAST)


def test_controls_that_the_cluster_does_not_know_are_named() -> None:
    states = states_with()
    del states[control("api", WEST)]
    (reason,) = plan.missing_controls(KNOWN, states, NAMES)
    assert reason.startswith("api: the cluster has no routing control")


@given(st.dictionaries(st.sampled_from(CONTROLS), st.sampled_from([True, False, None])))
def test_the_plan_is_empty_exactly_if_the_wanted_states_hold(changed: States) -> None:
    states = {**states_with(), **changed}
    made = plan.make_plan(KNOWN, states, Request("move", NAMES, WEST))
    hold = all(
        states[control(n, EAST)] is False and states[control(n, WEST)] is True for n in NAMES
    )
    assert (made.moves == ()) == hold
    assert {m.service.name for m in (*made.moves, *made.settled)} == set(NAMES)


@given(st.dictionaries(st.sampled_from(CONTROLS), st.booleans()), st.sampled_from([EAST, WEST]))
def test_carrying_out_a_plan_leaves_nothing_to_plan(changed: States, target: str) -> None:
    states = {**states_with(), **changed}
    request = Request("move", NAMES, target)
    for moves in plan.make_plan(KNOWN, states, request).batches:
        states.update({e.arn: e.wanted for m in moves for e in m.entries})
    assert plan.make_plan(KNOWN, states, request).moves == ()


@given(st.lists(st.integers(1, plan.BATCH_LIMIT), max_size=60))
def test_batches_are_full_but_not_too_full_and_split_nothing(sizes: list[int]) -> None:
    items = list(enumerate(sizes))
    batches = plan.batch(items, lambda item: item[1])
    assert [item for group in batches for item in group] == items
    assert all(0 < sum(size for _, size in group) <= plan.BATCH_LIMIT for group in batches)
    for group, following in pairwise(batches):
        assert sum(size for _, size in group) + following[0][1] > plan.BATCH_LIMIT


def test_a_service_with_more_controls_than_a_call_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="11 controls"):
        plan.batch([11], lambda size: size)


@given(st.integers(0, 60), st.integers(1, len(ARC_REGIONS)))
def test_no_endpoint_gets_more_than_its_quota_in_any_second(calls: int, endpoints: int) -> None:
    slots = plan.schedule(calls, endpoints)
    assert len(slots) == calls
    for number in range(endpoints):
        times = [at for endpoint, at in slots if endpoint == number]
        for start in times:
            within = [at for at in times if start <= at < start + 1]
            assert len(within) <= plan.MUTATING_CALLS_PER_SECOND

"""Where the positions of two alarms send a service, and what has to be published to move it."""

from __future__ import annotations

import pytest
from failover_fakes import EAST, REGIONS, WEST
from failover_takeover_fakes import alarm_name, mixed
from hypothesis import given
from hypothesis import strategies as st

from failover.cloudwatch import judge as judge_cloudwatch
from failover.errors import CallRejected, CredentialsError, FailoverError
from failover.plan import Request, Seen, make_plan
from failover.ports import EndpointFailed
from failover.takeover import (
    NO_RULE,
    Positions,
    TakeOverLook,
    answering,
    describe_source,
    held_in,
    judge,
    odd_positions,
    publications,
)

KNOWN = mixed(arc=["service1"], alarm=["service2"], health=["service3"], databases=["todo"])
ALARM, HEALTH = KNOWN.services["service2"], KNOWN.services["service3"]
known_positions = st.fixed_dictionaries(dict.fromkeys(REGIONS, st.booleans()))
any_positions = st.fixed_dictionaries(dict.fromkeys(REGIONS, st.sampled_from([True, False, None])))
targets = st.sampled_from(REGIONS)


def at(east: bool | None, west: bool | None) -> dict[str, bool | None]:
    return {EAST: east, WEST: west}


def look(positions: Positions) -> TakeOverLook:
    states = {True: "ALARM", False: "OK"}
    return TakeOverLook(
        {r: states[p] for r, p in positions.items() if p is not None},
        {r: "connection refused" for r, p in positions.items() if p is None},
    )


def carried_out(positions: Positions, target: str) -> dict[str, bool | None]:
    """The positions once everything that could be published has been."""
    reached = {r for r in REGIONS if positions[r] is not None}
    after = dict(positions)
    for p in publications(ALARM, REGIONS, target, positions):
        if p.out in reached:
            after[p.out] = p.taken
    return after


@pytest.mark.parametrize(
    ("east", "west", "regions"),
    [
        (False, False, (EAST,)),
        (True, False, (WEST,)),
        (False, True, (EAST,)),
        (True, True, (EAST,)),
        (None, True, (EAST,)),
        (False, None, (EAST,)),
        (True, None, (EAST, WEST)),
        (None, False, (EAST, WEST)),
        (None, None, (EAST, WEST)),
    ],
)
def test_which_region_answers(
    east: bool | None, west: bool | None, regions: tuple[str, ...]
) -> None:
    """Both taken over: Route 53 finds none healthy, and answers with the primary. Of what was not
    read every possibility counts."""
    assert answering(at(east, west), REGIONS) == regions


@given(any_positions)
def test_what_is_not_known_is_what_could_be_either(positions: Positions) -> None:
    """The answer of an unread position is that of all its values together."""
    unread = [r for r in REGIONS if positions[r] is None]
    found = {
        region
        for number in range(2 ** len(unread))
        for region in answering(
            {**positions, **{r: bool(number >> i & 1) for i, r in enumerate(unread)}}, REGIONS
        )
    }
    assert set(answering(positions, REGIONS)) == found


@given(known_positions, targets)
def test_a_move_from_anywhere_ends_at_the_target_and_at_rest(
    positions: Positions, target: str
) -> None:
    after = carried_out(positions, target)
    assert answering(after, REGIONS) == (target,)
    assert after == at(target == WEST, False)
    assert odd_positions(ALARM, REGIONS, after) == []
    plan = judge(ALARM, REGIONS, target, look(after))
    assert not plan.needed, "and then there is nothing left to do"
    assert not plan.notes


@given(known_positions, targets)
def test_no_order_of_being_seen_leads_elsewhere_on_the_way(
    positions: Positions, target: str
) -> None:
    """Alarms are evaluated each in its own time: what was published last may be seen first, unless
    it is published only once the others are seen."""
    start = answering(positions, REGIONS)
    made = publications(ALARM, REGIONS, target, positions)
    at_once = [p for p in made if not p.waits]
    for first in at_once:
        between = {**positions, first.out: first.taken}
        assert answering(between, REGIONS) in (start, (target,))
    after = {**positions, **{p.out: p.taken for p in at_once}}
    assert answering(after, REGIONS) == (target,)


@given(st.booleans(), st.booleans())
def test_the_primary_takes_over_without_the_standby(east: bool, west: bool) -> None:
    """Whatever the standby's alarm says, which nobody can read."""
    after = carried_out(at(None, west), EAST)
    assert answering({**after, EAST: east}, REGIONS) == (EAST,)


@given(st.booleans())
def test_the_standby_takes_over_without_the_primary(east: bool) -> None:
    """Unless it was left taken over itself, which nobody can read: then DNS will tell."""
    after = carried_out(at(east, None), WEST)
    assert answering({**after, WEST: False}, REGIONS) == (WEST,)
    assert answering(after, REGIONS) == (EAST, WEST)


@pytest.mark.parametrize(
    ("target", "positions", "wanted"),
    [
        (WEST, at(False, False), [(WEST, False, False), (EAST, True, True)]),
        (WEST, at(False, True), [(WEST, False, False), (EAST, True, True)]),
        (WEST, at(False, None), [(WEST, False, False), (EAST, True, True)]),
        (EAST, at(True, False), [(EAST, False, True), (WEST, False, False)]),
        (EAST, at(True, True), [(EAST, False, True), (WEST, False, False)]),
        (EAST, at(False, True), [(EAST, False, True), (WEST, False, False)]),
        (EAST, at(None, False), [(WEST, True, True)]),
        (EAST, at(None, True), [(WEST, True, True)]),
        (EAST, at(True, None), [(EAST, False, True), (WEST, False, False)]),
    ],
)
def test_what_is_published_and_in_which_order(
    target: str, positions: Positions, wanted: list[tuple[str, bool, bool]]
) -> None:
    made = publications(ALARM, REGIONS, target, positions)
    assert [(p.out, p.taken, p.must) for p in made] == wanted
    assert all(
        p.region != p.out and p.takeover.alarm == alarm_name("service2", p.out) for p in made
    )
    assert all(p.why for p in made)


@pytest.mark.parametrize(
    ("target", "positions", "needed"),
    [
        (WEST, at(False, False), True),
        (WEST, at(True, False), False),
        (WEST, at(True, True), True),
        (WEST, at(True, None), False),
        (WEST, at(False, None), True),
        (EAST, at(False, False), False),
        (EAST, at(True, False), True),
        (EAST, at(False, True), True),
        (EAST, at(True, True), True),
        (EAST, at(None, False), True),
        (EAST, at(None, True), False),
        (EAST, at(False, None), False),
        (EAST, at(True, None), True),
    ],
)
def test_there_is_something_to_do_while_a_position_stands_otherwise(
    target: str, positions: Positions, needed: bool
) -> None:
    plan = judge(ALARM, REGIONS, target, look(positions))
    assert plan.refusals == ()
    assert plan.needed is needed


def test_who_takes_over_has_to_reach_itself() -> None:
    refused = judge(ALARM, REGIONS, WEST, look(at(None, False)))
    assert any("connection refused" in reason for reason in refused.refusals)
    assert any("us-west-2 takes over by its own CloudWatch" in r for r in refused.refusals)
    for target in REGIONS:
        assert len(judge(ALARM, REGIONS, target, look(at(None, None))).refusals) == 2


def test_a_region_that_is_gone_by_then_has_another_way_planned() -> None:
    plan = judge(ALARM, REGIONS, EAST, look(at(True, False)))
    assert [(p.out, p.taken, p.must) for p in plan.otherwise] == [(WEST, True, True)]
    assert judge(ALARM, REGIONS, EAST, look(at(None, False))).otherwise == ()
    assert judge(ALARM, REGIONS, WEST, look(at(False, False))).otherwise == ()


@pytest.mark.parametrize(
    ("positions", "text"),
    [
        (at(False, False), ""),
        (at(True, False), ""),
        (at(True, None), ""),
        (at(False, True), "us-west-2 is still taken over"),
        (at(None, True), "us-west-2 is still taken over"),
        (at(True, True), "both regions are taken over"),
    ],
)
def test_what_is_left_over_is_named_with_the_command_that_clears_it(
    positions: Positions, text: str
) -> None:
    found = odd_positions(ALARM, REGIONS, positions)
    assert bool(found) == bool(text)
    for line in found:
        assert text in line
        assert "failover move service2 --to us-east-1 clears it" in line


@pytest.mark.parametrize(
    ("positions", "leads_to", "alarm", "health"),
    [
        (at(False, False), EAST, EAST, f"{EAST} (by itself)"),
        (at(False, False), WEST, EAST, f"{WEST} (by itself)"),
        (at(True, False), WEST, WEST, f"{WEST} (held)"),
        (at(False, True), EAST, EAST, f"{EAST} (held)"),
        (at(True, True), EAST, f"{EAST} (both taken over)", f"{EAST} (both taken over)"),
        (at(True, None), None, f"not known ({EAST} or {WEST})", "not known"),
        (at(True, None), WEST, f"{WEST} (by DNS)", WEST),
        (at(False, None), WEST, EAST, WEST),
        (at(False, False), None, EAST, "not known"),
    ],
)
def test_where_a_service_is_in_words(
    positions: Positions, leads_to: str | None, alarm: str, health: str
) -> None:
    for service, said in ((ALARM, alarm), (HEALTH, health)):
        assert judge(service, REGIONS, WEST, look(positions), leads_to).source == said
    assert describe_source(ALARM, REGIONS, positions, ()) == "not known"


def test_who_holds_a_service() -> None:
    assert held_in(at(True, False), REGIONS) == WEST
    assert held_in(at(False, True), REGIONS) == EAST
    for nobody in (at(False, False), at(True, True), at(True, None)):
        assert held_in(nobody, REGIONS) is None


def test_an_alarm_without_data_takes_nothing_over() -> None:
    seen = TakeOverLook({EAST: "INSUFFICIENT_DATA", WEST: "OK"})
    assert seen.positions(ALARM) == at(False, False)


def test_an_automatic_service_says_so() -> None:
    held = judge(HEALTH, REGIONS, WEST, look(at(False, False)), EAST)
    assert "moves by itself; this holds it in us-west-2 until it is moved back" in held.remarks
    assert "held in us-west-2 until: failover move service3 --to us-east-1" in held.afterwards[0]
    back = judge(HEALTH, REGIONS, EAST, look(at(True, False)), WEST)
    assert "this releases it" in back.remarks[0]
    assert "its health alone decides" in back.afterwards[0]


def test_a_primary_that_takes_over_alone_holds_until_the_standby_is_back() -> None:
    alone = judge(HEALTH, REGIONS, EAST, look(at(None, False)), WEST)
    assert "holds it in us-east-1 until us-west-2 answers" in alone.remarks[0]
    assert alone.afterwards == (
        "service3: us-west-2 stays taken over; when it answers again, run: "
        "failover move service3 --to us-east-1",
    )


def test_what_route_53_has_moved_by_itself_is_still_to_be_held() -> None:
    plan = judge(HEALTH, REGIONS, WEST, look(at(False, False)), WEST)
    assert plan.needed
    back = judge(HEALTH, REGIONS, EAST, look(at(False, False)), WEST)
    assert not back.needed
    assert "Route 53 has moved it there by itself" in back.notes[0]


def test_a_service_with_a_database_is_guarded_by_no_rule() -> None:
    todo = KNOWN.services["todo"]
    assert NO_RULE in judge(todo, REGIONS, WEST, look(at(False, False))).remarks


def test_a_plan_mixes_all_switches_and_keeps_arc_together() -> None:
    known = mixed(arc=["a", "b"], alarm=["c"], health=["d"])
    states: dict[str, bool | None] = {
        arn: region == EAST
        for service in known.services.values()
        for region, arn in service.routing_controls.items()
    }
    looks = {name: look(at(False, False)) for name in ("c", "d")}
    names = tuple(known.services)
    seen = Seen(takeovers=looks, leads_to={"d": EAST})
    plan = make_plan(known, states, Request("evacuate", names, WEST, EAST), seen)
    groups = [tuple(m.service.name for m in group) for group in plan.groups]
    assert groups == [("a", "b"), ("c",), ("d",)]
    assert [tuple(m.service.name for m in call) for call in plan.batches] == [("a", "b")]
    back = make_plan(known, states, Request("move", names, EAST), seen)
    assert [m.service.name for m in back.settled] == list(names)


def test_a_cluster_that_does_not_answer_leaves_only_its_own_services_out() -> None:
    known = mixed(arc=["a"], alarm=["c"])
    seen = Seen(takeovers={"c": look(at(False, False))}, arc_fault="no endpoint")
    plan = make_plan(known, {}, Request("evacuate", ("a", "c"), WEST, EAST), seen)
    assert plan.left_out == (("a", "no endpoint"),)
    assert [m.service.name for m in plan.moves] == ["c"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", CallRejected),
        ("InvalidParameterValueException", CallRejected),
        ("ExpiredToken", CredentialsError),
        ("InvalidClientTokenId", CredentialsError),
        ("Throttling", EndpointFailed),
        ("InternalServiceFault", EndpointFailed),
        ("", EndpointFailed),
    ],
)
def test_what_cloudwatch_refuses(code: str, kind: type[Exception]) -> None:
    error = judge_cloudwatch(code, "as scripted", EAST)
    assert type(error) is kind
    assert "as scripted" in str(error) or not code
    if isinstance(error, FailoverError):
        assert EAST in str(error)

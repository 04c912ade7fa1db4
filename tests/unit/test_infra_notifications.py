"""Whom alarms tell: nobody unless asked, each region by itself, never at a switch's expense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from infra_aws_fakes import topology
from infra_services_fakes import ACCOUNT
from test_infra_deploying import Rig
from test_infra_options import Rig as Destroyed
from test_infra_options import made

from infra.backend import Change, ChangePlan
from infra.deploying import StepsFailedError
from infra.leftovers import leftovers
from infra.notifications import ALARM, only_tells, topic_name
from infra.planning import plan
from infra.review import faults
from infra.stacks import stack_list
from infra.steps import Stack, Step
from infra.templates import template
from infra.topology import API, Options, Service, Topology
from lab.model import Resource

REGIONS = EAST, WEST = ("us-east-1", "us-west-2")
SERVICES = {
    "a": Service("a"),
    "b": Service("b", switch="alarm"),
    "c": Service("c", switch="health"),
}
BARE = replace(topology(database=True, **SERVICES), api=Service(API, switch="alarm"))
PAGERS = {region: f"arn:aws:sns:{region}:444455556666:pager" for region in REGIONS}
BY_MAIL = replace(BARE, options=Options(alarm_email="oncall@example.org"))
BY_TOPICS = replace(BARE, options=Options(alarm_topics=PAGERS))
STEPS = {f"notifications-{region}" for region in REGIONS}
ACTIONS = ("AlarmActions", "OKActions")


def steps_of(declared: Topology) -> dict[str, Step]:
    return {step.name: step for step in stack_list(declared)}


def alarms_in(name: str, declared: Topology) -> Iterator[Mapping[str, Any]]:
    for body in template(name, declared)["Resources"].values():
        if body["Type"] == ALARM:
            yield body["Properties"]


def deployed_alarms(declared: Topology) -> list[Resource]:
    """Every alarm of both regions, as the lab has it after `lab up`."""
    return list(made(declared).of_type(ALARM))


# ---- off unless asked for


def test_without_the_options_nothing_is_made_and_no_alarm_tells_anybody() -> None:
    assert not STEPS & steps_of(BARE).keys()
    for name in ("alarms.yaml", "takeover.yaml"):
        alarms = list(alarms_in(name, BARE))
        assert alarms
        assert not [key for alarm in alarms for key in alarm if key.endswith("Actions")]
        assert "To" not in template(name, BARE)["Parameters"]


def test_an_address_adds_a_topic_to_each_region_and_changes_only_who_has_alarms() -> None:
    before, found = steps_of(BARE), steps_of(BY_MAIL)

    assert found.keys() - before.keys() == STEPS
    changed = {name for name, step in before.items() if found[name] != step}
    assert changed == {f"alarms-{region}" for region in REGIONS}
    for region in REGIONS:
        step = found[f"notifications-{region}"]
        assert step.region == region
        assert step.values == {
            "TopicName": topic_name(BY_MAIL),
            "Email": "oncall@example.org",
        }


def test_it_costs_nothing_by_itself() -> None:
    costs = [sum(line.dollars for line in plan(t, stack_list(t))) for t in (BARE, BY_MAIL)]

    assert costs[0] == costs[1]


# ---- every alarm, in its own region


@pytest.mark.parametrize("declared", [BY_MAIL, BY_TOPICS], ids=["mail", "topics"])
def test_every_alarm_tells_a_topic_of_its_own_region_when_it_begins_and_ends(
    declared: Topology,
) -> None:
    own = {region: f"arn:aws:sns:{region}:{ACCOUNT}:{topic_name(declared)}" for region in REGIONS}
    expected = own if declared is BY_MAIL else PAGERS

    alarms = deployed_alarms(declared)

    of_apis = len(REGIONS) * 2 * len(declared.entries)
    of_the_database = len(REGIONS) * 2
    take_overs = len(REGIONS) * 3  # b, c and the external API
    assert len(alarms) == of_apis + of_the_database + take_overs
    assert len({alarm.physical_id for alarm in alarms}) == len(alarms)
    for alarm in alarms:
        for key in ACTIONS:
            assert alarm.properties[key] == [expected[alarm.region]], (alarm.logical_id, key)


def test_the_name_that_take_over_alarms_have_is_the_topic_that_is_made() -> None:
    deployed = made(BY_MAIL)

    for alarm in deployed.of_type(ALARM):
        made_there = deployed.outputs[f"notifications-{alarm.region}"]["TopicArn"]
        assert alarm.properties["AlarmActions"] == [made_there]


def test_with_topics_that_are_there_nothing_is_made() -> None:
    assert steps_of(BY_TOPICS).keys() == steps_of(BARE).keys()


def test_only_alarms_of_this_account_may_publish() -> None:
    resources = template("notifications.yaml", BY_MAIL)["Resources"]

    (statement,) = resources["Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Action"] == "sns:Publish"
    assert statement["Resource"] == {"Ref": "Topic"}
    account = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert statement["Condition"] == {"StringEquals": account}
    subscription = resources["Subscription"]["Properties"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", {"Ref": "Email"})


# ---- never at the expense of a switch


@pytest.mark.parametrize("declared", [BY_MAIL, BY_TOPICS], ids=["mail", "topics"])
def test_nothing_that_serves_or_switches_needs_a_topic(declared: Topology) -> None:
    steps = steps_of(declared)

    waiting = {name for name, step in steps.items() if STEPS & set(step.needs)}
    assert waiting == ({f"alarms-{region}" for region in REGIONS} if declared is BY_MAIL else set())
    tells = only_tells(steps.values())
    assert waiting <= tells
    assert not [s.name for s in steps.values() if tells & set(s.needs) and s.name not in tells]
    assert not [n for n in tells if n.startswith(("takeover-", "routing-", "gateway-"))]


def test_a_topic_that_fails_keeps_no_switch_from_being_deployed() -> None:
    declared = replace(BY_MAIL, services={name: SERVICES[name] for name in "bc"})
    rig = Rig(declared, workers=8)
    rig.aws.failing["notifications-us-west-2"] = "SNS is not for you"

    with pytest.raises(StepsFailedError, match="SNS is not for you") as caught:
        rig.deploy()

    assert caught.value.failures.keys() == {"notifications-us-west-2"}
    stacks = {s.name for s in stack_list(declared) if isinstance(s, Stack)}
    assert stacks - set(rig.aws.executed) == {"alarms-us-west-2"}
    assert "1 steps were not begun" in str(caught.value)

    rig.deploy(recreate_failed=True)
    assert rig.aws.stack("alarms-us-west-2").status == "CREATE_COMPLETE"


def test_the_options_can_be_added_to_what_is_there_and_taken_out_again() -> None:
    services = {"b": SERVICES["b"]}
    rig = Rig(replace(BARE, services=services))
    rig.deploy()
    take_overs = [name for name in rig.aws.executed if name.startswith("takeover-")]

    for declared in (BY_MAIL, BY_TOPICS, BARE):
        rig.topology = replace(declared, services=services)
        rig.aws.executed.clear()
        rig.deploy()
        changed = {n for n in rig.aws.executed if n not in STEPS}
        assert changed == {*take_overs, *(f"alarms-{region}" for region in REGIONS)}


def test_topics_that_are_no_longer_declared_are_left_over_for_destroy_to_find() -> None:
    present = {s.name: s.region for s in stack_list(BY_MAIL) if isinstance(s, Stack)}
    assert {s.name for s in leftovers(BARE, present)} == STEPS
    assert {s.name for s in leftovers(BY_TOPICS, present)} == STEPS
    assert not leftovers(BY_MAIL, present)


def test_another_address_is_another_subscription_and_is_not_refused() -> None:
    step = steps_of(BY_MAIL)["notifications-us-east-1"]
    assert isinstance(step, Stack)
    change = Change("Modify", "Subscription", "AWS::SNS::Subscription", replacement="True")

    assert not faults(ChangePlan(step, False, (change,), "handle"), ())


def test_destroying_leaves_none_of_it() -> None:
    rig = Destroyed(replace(BY_MAIL, services={"b": SERVICES["b"]}))
    assert set(rig.aws.executed) >= STEPS

    rig.destroy()

    assert rig.aws.left == []

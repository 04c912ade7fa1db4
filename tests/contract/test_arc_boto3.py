"""The four operations through boto3, as an operator's tool calls them.

Every test here runs unchanged against a real cluster (see `arc_support`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from arc_support import StandIn, Target, real_target, stand_in_target
from botocore.exceptions import ClientError

REFUSAL = r"Cannot modify control state for \[.+\] due to failed rule evaluation .+"
MAX_CONSISTENCY = 15


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A cluster whose service has its primary On."""
    recovery_file = os.environ.get("AWS_VERIFIED_RECOVERY_FILE")
    stand_in = None if recovery_file else StandIn(tmp_path)
    target = stand_in_target(stand_in) if stand_in else real_target(Path(str(recovery_file)))
    if target.states() != ("On", "Off"):
        pytest.fail("these tests start with the primary On and the secondary Off")
    try:
        yield target
        restored = {target.primary: "On", target.secondary: "Off"}
        target.write(restored, overrides=tuple(target.rules.values()))
    finally:
        target.close()
        if stand_in:
            stand_in.close()


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.semantics(6, 7)
def test_all_four_operations_on_all_five_endpoints(target: Target) -> None:
    assert len({endpoint["region"] for endpoint in target.endpoints}) == 5
    for index in range(5):
        client = target.client(index)
        read = client.get_routing_control_state(RoutingControlArn=target.primary)
        assert read["RoutingControlArn"] == target.primary
        assert read["RoutingControlState"] == "On"
        listed = client.list_routing_controls(ControlPanelArn=target.panel)["RoutingControls"]
        one = next(c for c in listed if c["RoutingControlArn"] == target.primary)
        assert one["RoutingControlName"] == read["RoutingControlName"]
        assert one["ControlPanelArn"] == target.panel
        assert one["RoutingControlState"] == "On"
        assert re.fullmatch(r"\S{1,64}", one["ControlPanelName"])
        assert one["Owner"] == target.primary.split(":")[4]
        target.write({target.primary: "On", target.secondary: "Off"}, index)
        target.wait(target.pause)
        client.update_routing_control_state(
            RoutingControlArn=target.primary, RoutingControlState="On"
        )


@pytest.mark.semantics(3, 4)
@pytest.mark.parametrize("state", ["ON", "on", "off"])
def test_states_are_exactly_on_and_off(target: Target, state: str) -> None:
    with pytest.raises(ClientError) as caught:
        target.write({target.primary: state})
    assert refusal(caught)[0] == "ValidationException"
    assert target.states() == ("On", "Off")


@pytest.mark.semantics(4)
def test_bad_arns_are_refused(target: Target) -> None:
    for arn in ("a" * 256, "no arn at all"):
        with pytest.raises(ClientError) as caught:
            target.read(arn)
        assert refusal(caught)[0] == "ValidationException"


@pytest.mark.semantics(5)
def test_unknown_controls_and_panels_are_not_found(target: Target) -> None:
    unknown = target.primary[:-4] + "0000"
    with pytest.raises(ClientError) as caught:
        target.read(unknown)
    assert refusal(caught)[0] == "ResourceNotFoundException"
    assert caught.value.response["resourceId"]
    assert caught.value.response["resourceType"]
    with pytest.raises(ClientError) as caught:
        target.client().list_routing_controls(ControlPanelArn=target.panel[:-4] + "0000")
    assert refusal(caught)[0] == "ResourceNotFoundException"


@pytest.mark.semantics(10, 11)
def test_a_write_is_seen_at_once_where_written_and_soon_everywhere(target: Target) -> None:
    target.write({target.primary: "Off", target.secondary: "On"}, index=2)
    assert target.states(2) == ("Off", "On")
    for _ in range(MAX_CONSISTENCY):
        if {target.states(index) for index in range(5)} == {("Off", "On")}:
            break
        target.wait(1)
    assert [target.states(index) for index in range(5)] == [("Off", "On")] * 5


@pytest.mark.semantics(16)
def test_lists_come_in_pages(target: Target) -> None:
    client = target.client()
    whole = client.list_routing_controls()["RoutingControls"]
    paged, token = [], {}
    while True:
        page = client.list_routing_controls(MaxResults=2, **token)
        assert len(page["RoutingControls"]) <= 2
        paged += page["RoutingControls"]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert paged == whole
    panel = client.list_routing_controls(ControlPanelArn=target.panel)["RoutingControls"]
    assert panel == [c for c in whole if c["ControlPanelArn"] == target.panel]


@pytest.mark.semantics(21, 24, 27, 28)
@pytest.mark.parametrize("index", range(5))
def test_both_off_and_both_on_are_refused_by_name_on_every_endpoint(
    target: Target, index: int
) -> None:
    for states, rule in (
        ({target.primary: "Off", target.secondary: "Off"}, "at-least-one"),
        ({target.secondary: "On"}, "at-most-one"),
    ):
        with pytest.raises(ClientError) as caught:
            target.write(states, index)
        response = caught.value.response
        assert response["Error"]["Code"] == "ConflictException"
        assert re.match(REFUSAL, response["Error"]["Message"])
        assert target.rules[rule].rsplit("/", 1)[1] in str(response)
        assert response["resourceId"]
        assert response["resourceType"]
        assert target.states(index) == ("On", "Off")


@pytest.mark.semantics(29)
def test_an_override_passes_once(target: Target) -> None:
    target.write({target.secondary: "On"}, overrides=(target.rules["at-most-one"],))
    assert target.states() == ("On", "On")
    target.write({target.secondary: "Off"})
    with pytest.raises(ClientError) as caught:
        target.write({target.secondary: "On"})
    assert refusal(caught)[0] == "ConflictException"

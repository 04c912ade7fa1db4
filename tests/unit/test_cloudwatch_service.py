"""CloudWatch of one region without sockets: its calls, its memory, what it refuses."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.cloudwatch import ApiError, CloudWatch, CloudWatchError
from lab.cloudwatch.api import Api
from lab.cloudwatch.requests import read_data, read_query
from lab.errors import LabError
from lab.model import Deployment, Resource

REGION = "us-west-2"
SIMPLE = {
    "Namespace": "N", "MetricName": "M", "Dimensions": [{"Name": "a", "Value": "b"}],
    "Statistic": "Maximum", "Period": 60, "EvaluationPeriods": 1, "DatapointsToAlarm": 1,
    "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "ignore",
}  # fmt: skip
DATUM = {"MetricName": "M", "Dimensions": [{"Name": "a", "Value": "b"}], "Value": 1.0}
FOLLOWING = Resource(
    "s", "us-east-1", "C", "AWS::Route53::HealthCheck", "check",
    {"HealthCheckConfig": {"AlarmIdentifier": {"Region": REGION, "Name": "one"}}}, {},
)  # fmt: skip


def alarm(name: str, region: str = REGION, **given: Any) -> Resource:
    properties = {k: v for k, v in {**SIMPLE, **given}.items() if v is not None}
    arn = f"arn:aws:cloudwatch:{region}:111122223333:alarm:{name}"
    return Resource("s", region, name, "AWS::CloudWatch::Alarm", name, properties, {"Arn": arn})


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, folder: Path, *resources: Resource) -> None:
        self.clock = Clock()
        self.path = folder / "state" / "cloudwatch.json"
        self.resources = resources or (alarm("one"), alarm("other", MetricName="X"), FOLLOWING)
        self.events: list[dict[str, Any]] = []
        self.restart()

    def restart(self) -> None:
        self.service = CloudWatch(
            REGION, Deployment(self.resources, {}), 1.0, self.path, self.clock,
            on_event=self.events.append,
        )  # fmt: skip

    def publish(self, value: float, **given: Any) -> None:
        self.service.put_metric_data(
            {"Namespace": "N", "MetricData": [{**DATUM, "Value": value, **given}]}
        )

    def state(self, name: str = "one") -> str:
        (found,) = self.service.describe_alarms({"AlarmNames": [name]})["MetricAlarms"]
        return str(found["StateValue"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.semantics(69, 71)
def test_a_position_is_set_and_holds_and_is_cleared(world: World) -> None:
    assert world.state() == "INSUFFICIENT_DATA"
    world.publish(1.0)
    world.clock.now += 60
    assert world.state() == "ALARM"
    world.clock.now += 86_400
    assert world.state() == "ALARM"
    world.publish(0.0)
    world.clock.now += 60
    assert world.state() == "OK"
    assert world.state("other") == "INSUFFICIENT_DATA"


@pytest.mark.semantics(72)
def test_positions_survive_a_restart_evaluated_or_not(world: World) -> None:
    world.publish(1.0)
    world.restart()
    world.clock.now += 3600
    assert world.state() == "ALARM"
    world.restart()
    assert world.state() == "ALARM"
    assert world.service.readings(["one"]) == {"one": {"now": "INSUFFICIENT_DATA", "last": "ALARM"}}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"version": 2}', '{"version": 1, "alarms": []}',
     '{"version": 1, "alarms": {"one": {"x": 1}}, "metrics": []}'],
)  # fmt: skip
def test_an_unreadable_memory_is_said_to_be_one(world: World, text: str) -> None:
    world.publish(1.0)
    world.path.write_text(text)
    with pytest.raises(CloudWatchError, match="remove it"):
        world.restart()


def test_a_position_that_cannot_be_kept_is_not_taken(world: World) -> None:
    world.path.parent.write_text("in the way")
    with pytest.raises(CloudWatchError, match="cannot save"):
        world.publish(1.0)
    world.path.parent.unlink()
    world.clock.now += 60
    assert world.state() == "INSUFFICIENT_DATA"


@pytest.mark.semantics(69)
def test_a_metric_is_its_namespace_its_name_and_all_its_dimensions(world: World) -> None:
    for publication in (
        {"Namespace": "Other", "MetricData": [DATUM]},
        {"Namespace": "N", "MetricData": [{**DATUM, "MetricName": "m"}]},
        {"Namespace": "N", "MetricData": [{**DATUM, "Dimensions": []}]},
        {"Namespace": "N", "MetricData": [
            {**DATUM, "Dimensions": [*DATUM["Dimensions"], {"Name": "c", "Value": "d"}]}]},
    ):  # fmt: skip
        assert world.service.put_metric_data(publication) == {}
    world.clock.now += 60
    assert world.state() == "INSUFFICIENT_DATA"


@pytest.mark.semantics(68)
def test_one_bad_datum_spoils_the_request(world: World) -> None:
    with pytest.raises(ApiError):
        world.service.put_metric_data(
            {"Namespace": "N", "MetricData": [DATUM, {**DATUM, "Unit": "Parsec"}]}
        )
    world.clock.now += 60
    assert world.state() == "INSUFFICIENT_DATA"


def test_values_and_statistic_sets_count_as_well(world: World) -> None:
    world.publish(0, Value=None, Values=[0.0, 1.0], Counts=[5, 1])
    world.clock.now += 60
    assert world.state() == "ALARM"
    numbers = {"SampleCount": 2, "Sum": 0, "Minimum": 0, "Maximum": 0}
    world.publish(0, Value=None, StatisticValues=numbers)
    world.clock.now += 60
    assert world.state() == "OK"


@pytest.mark.semantics(68)
@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"MetricData": [DATUM]}, "MissingParameter"),
        ({"Namespace": "", "MetricData": [DATUM]}, "MissingParameter"),
        ({"Namespace": "AWS/Lambda", "MetricData": [DATUM]}, "InvalidParameterValue"),
        ({"Namespace": ":N", "MetricData": [DATUM]}, "InvalidParameterValue"),
        ({"Namespace": "N" * 256, "MetricData": [DATUM]}, "InvalidParameterValue"),
        ({"Namespace": "Ñ", "MetricData": [DATUM]}, "InvalidParameterValue"),
        ({"Namespace": 5, "MetricData": [DATUM]}, "SerializationException"),
        ({"Namespace": "N"}, "MissingParameter"),
        ({"Namespace": "N", "MetricData": {}}, "SerializationException"),
        ({"Namespace": "N", "MetricData": [3]}, "SerializationException"),
        ({"Namespace": "N", "MetricData": [DATUM] * 1001}, "InvalidParameterValue"),
        ({"Namespace": "N", "EntityMetricData": [{}]}, "InvalidParameterValue"),
    ],
)
def test_what_a_publication_must_be(given: dict[str, Any], code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        read_data(given, 1_000_000.0)
    assert refusal.value.code == code


@pytest.mark.semantics(68)
@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"MetricName": None}, "MissingParameter"),
        ({"Value": None}, "MissingParameter"),
        ({"Values": [1.0]}, "InvalidParameterCombination"),
        ({"Value": None, "Values": []}, "InvalidParameterValue"),
        ({"Value": None, "Values": [1.0] * 151}, "InvalidParameterValue"),
        ({"Value": None, "Values": [1.0], "Counts": [1, 2]}, "InvalidParameterValue"),
        ({"Value": None, "StatisticValues": {"Sum": 1}}, "MissingParameter"),
        ({"Value": "NaN"}, "InvalidParameterValue"),
        ({"Value": 2.0**361}, "InvalidParameterValue"),
        ({"Value": "1"}, "SerializationException"),
        ({"Value": True}, "SerializationException"),
        ({"Unit": "Parsec"}, "InvalidParameterValue"),
        ({"StorageResolution": 5}, "InvalidParameterValue"),
        ({"Timestamp": 1_000_000.0 - 15 * 86_400}, "InvalidParameterValue"),
        ({"Timestamp": 1_000_000.0 + 3 * 3600}, "InvalidParameterValue"),
        ({"Timestamp": "now"}, "SerializationException"),
        ({"Dimensions": [{"Name": "a"}]}, "MissingParameter"),
        ({"Dimensions": [{"Name": ":a", "Value": "b"}]}, "InvalidParameterValue"),
        ({"Dimensions": [{"Name": "a", "Value": "b"}] * 2}, "InvalidParameterValue"),
        ({"Dimensions": [{"Name": f"{i}", "Value": "b"} for i in range(31)]},
         "InvalidParameterValue"),
    ],
)  # fmt: skip
def test_what_a_datum_must_be(given: dict[str, Any], code: str) -> None:
    datum = {**DATUM, **given}
    with pytest.raises(ApiError) as refusal:
        read_data({"Namespace": "N", "MetricData": [datum]}, 1_000_000.0)
    assert refusal.value.code == code


MEMBERS = ["Namespace", "MetricData", "AlarmNames", "AlarmTypes", "StateValue", "MaxRecords",
           "NextToken", "AlarmNamePrefix"]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Namespace", "MetricData", "MetricName", "Dimensions", "Name", "Value",
                         "Values", "Counts", "Timestamp", "Unit", "AlarmNames", "MaxRecords"]),
        inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(sent=st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=5))
def test_whatever_is_sent_is_read_or_refused(sent: dict[str, Any]) -> None:
    for read in (lambda: read_data(sent, 0.0), lambda: read_query(sent)):
        with contextlib.suppress(ApiError):
            read()


# ---- DescribeAlarms


@pytest.mark.semantics(69)
def test_alarms_are_described_with_all_that_the_template_says(world: World) -> None:
    (described,) = world.service.describe_alarms({"AlarmNames": ["one"]})["MetricAlarms"]
    assert described["AlarmArn"].endswith(":alarm:one")
    assert described.items() >= {
        k: v for k, v in SIMPLE.items() if k not in ("Dimensions",)
    }.items()  # fmt: skip
    assert described["Dimensions"] == [{"Name": "a", "Value": "b"}]
    assert described["StateReason"] == "Unchecked: Initial alarm creation"
    assert world.service.describe_alarms({"AlarmNames": ["none"]})["MetricAlarms"] == []
    only = world.service.describe_alarms({"AlarmTypes": ["CompositeAlarm"]})
    assert only == {"MetricAlarms": [], "CompositeAlarms": []}


def test_alarms_come_in_pages_sorted_by_name(tmp_path: Path) -> None:
    names = [f"a{n:02}" for n in range(7)]
    world = World(tmp_path, *(alarm(name) for name in reversed(names)), alarm("b"))
    found: list[str] = []
    token: dict[str, str] = {}
    for _ in range(3):
        page = world.service.describe_alarms({"AlarmNamePrefix": "a", "MaxRecords": 3, **token})
        found += [a["AlarmName"] for a in page["MetricAlarms"]]
        token = {"NextToken": page.get("NextToken", "")}
    assert found == names
    assert token == {"NextToken": ""}
    with pytest.raises(ApiError, match="InvalidNextToken"):
        world.service.describe_alarms({"NextToken": "?"})


def test_alarms_by_state_and_by_action(tmp_path: Path) -> None:
    world = World(
        tmp_path, alarm("one"), alarm("other", MetricName="X", AlarmActions=["arn:aws:sns:x"])
    )
    world.publish(1.0)
    world.clock.now += 60

    def names(**given: Any) -> list[str]:
        return [a["AlarmName"] for a in world.service.describe_alarms(given)["MetricAlarms"]]

    assert names(StateValue="ALARM") == ["one"]
    assert names(StateValue="INSUFFICIENT_DATA") == ["other"]
    assert names(ActionPrefix="arn:aws:sns") == ["other"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"AlarmNames": ["a"], "AlarmNamePrefix": "a"}, "InvalidParameterCombination"),
        ({"AlarmNames": ["a"] * 101}, "InvalidParameterValue"),
        ({"AlarmTypes": ["Loud"]}, "InvalidParameterValue"),
        ({"StateValue": "Ok"}, "InvalidParameterValue"),
        ({"MaxRecords": 101}, "InvalidParameterValue"),
        ({"MaxRecords": "5"}, "InvalidParameterValue"),
        ({"ChildrenOfAlarmName": "a"}, "InvalidParameterValue"),
        ({"NextToken": 1}, "SerializationException"),
    ],
)
def test_what_a_question_must_be(given: dict[str, Any], code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        read_query(given)
    assert refusal.value.code == code


# ---- Route 53's view, status, faults


@pytest.mark.semantics(73)
def test_readings_are_of_the_data_and_not_of_the_alarms_state(world: World) -> None:
    assert world.service.readings(["one", "gone"]) == {
        "one": {"now": "INSUFFICIENT_DATA", "last": "INSUFFICIENT_DATA"}
    }
    world.publish(1.0)
    world.clock.now += 60
    assert world.service.readings(["one"]) == {"one": {"now": "ALARM", "last": "ALARM"}}
    world.clock.now += 3600
    assert world.service.readings(["one"])["one"]["now"] == "INSUFFICIENT_DATA"
    assert world.state() == "ALARM"


async def test_while_it_is_down_nobody_is_told_anything(world: World) -> None:
    await world.service.set_down("cut", True)
    await world.service.set_down("fault", True)
    await world.service.set_down("cut", False)
    with pytest.raises(LabError, match="us-west-2"):
        world.service.readings(["one"])
    assert world.service.status()["down"] == ["fault"]
    await world.service.set_down("fault", False)
    assert world.service.readings(["one"])


def test_status_lists_what_health_checks_follow_and_counts_the_others(world: World) -> None:
    world.publish(1.0)
    world.clock.now += 60
    status = world.service.status()
    assert status["alarms"] == {"one": {"state": "ALARM", "changed_at": 999_960.0 + 60}}
    assert (status["down"], status["other_alarms"]) == ([], 1)


def test_events_tell_of_publications_and_changes(world: World) -> None:
    world.publish(1.0)
    world.clock.now += 60
    world.state()
    kinds = [(event["kind"], event.get("value"), event.get("after")) for event in world.events]
    assert kinds == [("metric_published", 1.0, None), ("alarm_changed", None, "ALARM")]


# ---- the protocol

SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=lab/20261127/us-west-2/monitoring/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    "x-amz-date": "20261127T000000Z",
    "x-amz-target": "GraniteServiceVersion20100801.DescribeAlarms",
}  # fmt: skip


def answered(body: bytes = b"{}", method: str = "POST", **headers: str) -> tuple[int, str]:
    api = Api(REGION, {"DescribeAlarms": lambda given: {"given": dict(given)}})
    given = {**SIGNED, **{k.replace("_", "-"): v for k, v in headers.items()}}
    status, _, document = api.answer(method, given, body)
    return status, str(document.get("__type", document)).rpartition("#")[2]


@pytest.mark.semantics(67)
@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, b"{}", (200, "{'given': {}}")),
        ({}, b"", (200, "{'given': {}}")),
        ({"content_encoding": "gzip"}, gzip.compress(b'{"a": 1}', mtime=0),
         (200, "{'given': {'a': 1}}")),
        ({"content_encoding": "gzip"}, b"{}", (400, "SerializationException")),
        ({"content_encoding": "gzip"}, gzip.compress(b" " * 2**21, mtime=0),
         (413, "RequestEntityTooLarge")),
        ({}, b"[]", (400, "SerializationException")),
        ({}, b"{", (400, "SerializationException")),
        ({"x_amz_target": ""}, b"Action=DescribeAlarms", (400, "UnknownOperationException")),
        ({"x_amz_target": "Other.DescribeAlarms"}, b"{}", (400, "UnknownOperationException")),
        ({"x_amz_target": "GraniteServiceVersion20100801.PutMetricAlarm"}, b"{}",
         (400, "UnknownOperationException")),
        ({"authorization": ""}, b"{}", (403, "MissingAuthenticationToken")),
        ({"authorization": "Basic x"}, b"{}", (400, "IncompleteSignature")),
        ({"x_amz_date": "20261128T000000Z"}, b"{}", (403, "SignatureDoesNotMatch")),
        ({"authorization": SIGNED["authorization"].replace("us-west-2", "us-east-1")}, b"{}",
         (403, "SignatureDoesNotMatch")),
        ({"authorization": SIGNED["authorization"].replace("monitoring", "rds")}, b"{}",
         (403, "SignatureDoesNotMatch")),
    ],
)  # fmt: skip
def test_requests_and_their_signature(
    headers: dict[str, str], body: bytes, expected: tuple[int, str]
) -> None:
    assert answered(body, **headers) == expected


@pytest.mark.semantics(67)
def test_an_error_has_its_old_code_in_a_header_for_those_who_ask() -> None:
    def refuse(_: object) -> dict[str, Any]:
        raise ApiError("MissingParameter", "why", shape="MissingRequiredParameterException")

    def fail(_: object) -> dict[str, Any]:
        raise CloudWatchError("the disk is full")

    for operation, status, code in (
        (refuse, 400, "MissingParameter;Sender"), (fail, 500, "InternalServiceError;Receiver"),
    ):  # fmt: skip
        api = Api(REGION, {"DescribeAlarms": operation})
        asked = {**SIGNED, "x-amzn-query-mode": "true"}
        assert api.answer("POST", asked, b"{}")[:2] == (status, {"x-amzn-query-error": code})
        assert api.answer("POST", SIGNED, b"{}")[:2] == (status, {})


def test_numbers_of_a_file_are_what_json_can_carry(world: World) -> None:
    world.publish(1.0)
    document = json.loads(world.path.read_text())
    assert document["metrics"][0]["dimensions"] == [["a", "b"]]
    assert math.isclose(document["metrics"][0]["points"][0]["at"], world.clock.now)

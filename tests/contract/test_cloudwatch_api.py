"""CloudWatch as boto3 and the `aws` command see it, and as botocore's model describes it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.model import Shape

from lab.cloudwatch import CloudWatch
from lab.model import Deployment, Resource

REGION = "us-west-2"
HOST = "127.0.0.1"
AWS = Path(sys.executable).parent / "aws"
SCALE = 0.001
"""A period of one minute takes 60 ms."""
NAMES = ("from-east", "from-east-other", "loud")
MODEL = botocore.session.get_session().get_service_model("cloudwatch")


def alarm(name: str) -> Resource:
    properties = {
        "AlarmName": name, "AlarmDescription": "said", "Namespace": "TwoRegionApi",
        "MetricName": "TakeOver", "Dimensions": [{"Name": "Service", "Value": name}],
        "Statistic": "Maximum", "Period": 60, "EvaluationPeriods": 1, "DatapointsToAlarm": 1,
        "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "ignore", "AlarmActions": ["arn:aws:sns:us-west-2:111122223333:x"],
    }  # fmt: skip
    arn = f"arn:aws:cloudwatch:{REGION}:111122223333:alarm:{name}"
    return Resource("s", REGION, name, "AWS::CloudWatch::Alarm", name, properties, {"Arn": arn})


class World:
    """One region's CloudWatch in an event loop of its own, on a free port."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.service = self.run(self._made(folder))
        self.url = f"http://{HOST}:{self.run(self.service.start(HOST, 0))}"

    async def _made(self, folder: Path) -> CloudWatch:
        deployment = Deployment(tuple(map(alarm, NAMES)), {})
        return CloudWatch(REGION, deployment, SCALE, folder / "cloudwatch.json")

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self.run(self.service.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def client(self, region: str = REGION) -> Any:
        return boto3.client(
            "cloudwatch", region_name=region, endpoint_url=self.url, aws_access_key_id="lab",
            aws_secret_access_key="lab", config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip

    def aws(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}
        return subprocess.run(
            [str(AWS), "cloudwatch", *arguments, "--region", REGION, "--endpoint-url", self.url],
            env={**environment, **keys}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("cloudwatch"))
    try:
        yield world
    finally:
        world.close()


def datum(name: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        "MetricName": "TakeOver", "Dimensions": [{"Name": "Service", "Value": name}],
        "Value": value, "Unit": "None", **more,
    }  # fmt: skip


def publish(client: Any, *data: dict[str, Any]) -> None:
    answer = client.put_metric_data(Namespace="TwoRegionApi", MetricData=list(data))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def described(client: Any, name: str) -> dict[str, Any]:
    (found,) = client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm"])["MetricAlarms"]
    return dict(found)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.semantics(67, 69)
def test_boto3_takes_over_and_gives_back(world: World) -> None:
    client = world.client()
    assert described(client, "from-east")["StateValue"] == "INSUFFICIENT_DATA"
    for value, state in ((1.0, "ALARM"), (0.0, "OK"), (1.0, "ALARM")):
        publish(client, datum("from-east", value, Timestamp=datetime.now(UTC)))
        until(lambda s=state: described(client, "from-east")["StateValue"] == s)
    found = described(client, "from-east")
    assert found["AlarmArn"] == f"arn:aws:cloudwatch:{REGION}:111122223333:alarm:from-east"
    assert (found["Period"], found["Threshold"], found["AlarmDescription"]) == (60, 1.0, "said")
    age = datetime.now(UTC) - found["StateUpdatedTimestamp"]
    assert timedelta(0) <= age < timedelta(seconds=10)
    assert described(client, "from-east-other")["StateValue"] == "INSUFFICIENT_DATA"


@pytest.mark.semantics(67)
def test_the_aws_command_takes_over(world: World) -> None:
    done = world.aws(
        "put-metric-data", "--namespace", "TwoRegionApi", "--metric-name", "TakeOver",
        "--dimensions", "Service=from-east-other", "--value", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    until(lambda: described(world.client(), "from-east-other")["StateValue"] == "ALARM")
    done = world.aws("describe-alarms", "--state-value", "ALARM", "--alarm-name-prefix", "from-")
    names = [a["AlarmName"] for a in json.loads(done.stdout)["MetricAlarms"]]
    assert "from-east-other" in names
    refused = world.aws("put-metric-data", "--namespace", "AWS/Lambda", "--metric-name", "x",
                        "--value", "1")  # fmt: skip
    assert refused.returncode != 0
    assert "InvalidParameterValue" in refused.stderr


@pytest.mark.semantics(67, 68)
def test_refusals_have_the_codes_that_the_model_knows(world: World) -> None:
    client = world.client()
    shapes = MODEL.operation_model("PutMetricData").error_shapes
    codes = {shape.metadata["error"]["code"] for shape in shapes}
    for data, code in (
        (datum("loud", 1.0, Unit="Parsec"), "InvalidParameterValue"),
        (datum("loud", 1.0, Values=[1.0]), "InvalidParameterCombination"),
        ({"MetricName": "TakeOver"}, "MissingParameter"),
        (datum("loud", float("nan")), "InvalidParameterValue"),
        (datum("loud", 1.0, Timestamp=datetime(2001, 1, 1, tzinfo=UTC)), "InvalidParameterValue"),
    ):
        with pytest.raises(ClientError) as refusal:
            publish(client, data)
        error = refusal.value.response
        assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, 400)
        assert error["Error"]["Message"]
        assert code in codes
    with pytest.raises(client.exceptions.InvalidNextToken):
        client.describe_alarms(NextToken="?")
    for call in (client.list_metrics, client.describe_alarm_history):
        with pytest.raises(ClientError, match="UnknownOperationException"):
            call()


def test_a_large_publication_comes_packed(world: World) -> None:
    client = world.client()
    many = [datum(f"nobody-{n}", 1.0) for n in range(400)]
    publish(client, *many, datum("loud", 1.0))
    until(lambda: described(client, "loud")["StateValue"] == "ALARM")


@pytest.mark.semantics(67)
def test_a_request_signed_for_another_region_is_refused(world: World) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        world.client("us-east-1").describe_alarms()


def test_pages_can_be_walked_by_a_paginator(world: World) -> None:
    pages = world.client().get_paginator("describe_alarms").paginate(
        PaginationConfig={"PageSize": 2}
    )
    assert [a["AlarmName"] for page in pages for a in page["MetricAlarms"]] == sorted(NAMES)


def _faults(value: Any, shape: Shape, at: str) -> Iterator[str]:
    """What an answer says that the model does not know."""
    kinds = {"string": str, "integer": int, "double": (int, float), "boolean": bool,
             "timestamp": (int, float), "list": list, "structure": dict}  # fmt: skip
    if not isinstance(value, kinds[shape.type_name]):
        yield f"{at}: {value!r} is no {shape.type_name}"
    elif shape.type_name == "structure":
        for key, item in value.items():
            if key not in shape.members:
                yield f"{at}.{key} is unknown"
            else:
                yield from _faults(item, shape.members[key], f"{at}.{key}")
    elif shape.type_name == "list":
        for item in value:
            yield from _faults(item, shape.member, f"{at}[]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{at}: {value!r} is none of {shape.enum}"


@pytest.mark.semantics(69)
def test_answers_say_nothing_that_the_model_does_not_know(world: World) -> None:
    answer = world.service.describe_alarms({})
    shape = MODEL.operation_model("DescribeAlarms").output_shape
    assert list(_faults(answer, shape, "answer")) == []
    assert len(answer["MetricAlarms"]) == len(NAMES)


@pytest.mark.semantics(76)
def test_while_it_is_down_connections_are_refused(world: World) -> None:
    world.run(world.service.set_down("fault", True))
    try:
        with pytest.raises(EndpointConnectionError):
            world.client().describe_alarms()
    finally:
        world.run(world.service.set_down("fault", False))
    assert described(world.client(), "loud")

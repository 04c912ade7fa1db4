"""Metrics out of functions' logs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services_support import regional

from lab.cloudwatch.embedded import EmbeddedMetrics, LogTail, requests_of
from lab.cloudwatch.errors import ApiError
from lab.cloudwatch.requests import read_data

NOW = 1_700_000_000.0
LINE = {
    "_aws": {
        "Timestamp": NOW * 1000,
        "CloudWatchMetrics": [
            {"Namespace": "N", "Dimensions": [["A", "B"], ["A"]], "Metrics": [{"Name": "M"}]}
        ],
    },
    "A": "a", "B": "b", "M": 2, "other": "text",
}  # fmt: skip


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.semantics(80)
def test_a_line_publishes_each_metric_with_each_set_of_dimensions() -> None:
    (request,) = requests_of(encoded(LINE))
    assert request["Namespace"] == "N"
    assert [d["Dimensions"] for d in request["MetricData"]] == [
        [{"Name": "A", "Value": "a"}, {"Name": "B", "Value": "b"}],
        [{"Name": "A", "Value": "a"}],
    ]
    assert {d["Value"] for d in request["MetricData"]} == {2.0}
    assert len(read_data(request, NOW)) == 2  # CloudWatch takes it


@pytest.mark.parametrize(
    "line",
    [
        b"START RequestId: 1", b"{", b"[]", b"null", b"1", b'{"_aws": 1}', b'{"_aws": {}}',
        encoded({**LINE, "M": "two"}), encoded({**LINE, "M": None}),
        encoded({k: v for k, v in LINE.items() if k != "B"}),
        encoded({**LINE, "_aws": {"Timestamp": "now", "CloudWatchMetrics": [{}]}}),
    ],
)  # fmt: skip
def test_any_other_line_publishes_nothing(line: bytes) -> None:
    assert requests_of(line) == []


@given(st.binary(max_size=60))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    assert requests_of(line) == []


@pytest.mark.semantics(80)
def test_what_a_standby_writes_when_it_holds_is_such_a_line() -> None:
    dimensions = {"Domain": "example.test", "Service": "a", "Region": "us-east-1"}
    hold = {
        "host": "a.example.test", "check": "https://a.us-east-1.example.test/deep",
        "namespace": "TwoRegionApi", "metric": "TakeOver", "dimensions": dimensions,
    }  # fmt: skip
    lines: list[str] = []
    with regional():
        module = importlib.import_module("regional.hold")
        settings = module.Settings.read(json.dumps(hold))
        module.Hold(settings, lines.append, lambda url, timeout: False).served(
            "a.example.test", lambda: NOW * 1000
        )
    (request,) = requests_of(lines[0].encode())
    ((metric, point),) = read_data(request, NOW)
    assert (metric.namespace, metric.name) == ("TwoRegionApi", "TakeOver")
    assert dict(metric.dimensions) == dimensions
    assert (point.highest, point.at) == (1.0, NOW)


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"old\n")
    tail = LogTail(log)
    assert tail.lines() == []
    with log.open("ab") as file:
        file.write(b"one\ntw")
        file.flush()
        assert tail.lines() == [b"one"]
        file.write(b"o\n")
        file.flush()
        assert tail.lines() == [b"two"]
    log.write_bytes(b"x\n")  # emptied, as a log that grew too large is
    assert tail.lines() == [b"x"]
    log.unlink()
    assert tail.lines() == []


def test_a_refused_line_does_not_keep_the_next_from_being_published(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    published: list[float] = []

    def publish(request: dict[str, Any]) -> None:
        if request["MetricData"][0]["Value"] == 2:
            raise ApiError("InvalidParameterValue", "no")
        published.append(request["MetricData"][0]["Value"])

    metrics = EmbeddedMetrics([log], publish, 1)
    lines = (LINE, {**LINE, "M": 3}, {"no": "metric"})
    log.write_bytes(b"".join(encoded(line) + b"\n" for line in lines))
    metrics.look()
    assert published == [3.0]

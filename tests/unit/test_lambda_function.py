"""What a function is, what its process sees, and its traces and log lines."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from lab.lambda_runtime.function import FunctionConfigError, environment_of, functions_of
from lab.lambda_runtime.log import FunctionLog
from lab.lambda_runtime.runtime_dir import make_runtime_dir
from lab.lambda_runtime.xray import TraceSampler
from lab.model import Deployment, Resource


def deployment(name: str, **given: Any) -> Deployment:
    arn = f"arn:aws:lambda:us-east-1:111122223333:function:{name}"
    function = Resource(
        "s", "us-east-1", "APIHandler", "AWS::Serverless::Function", name, given, {"Arn": arn}
    )
    return Deployment((function,), {})


def test_defaults_are_those_of_lambda(tmp_path: Path) -> None:
    given = deployment("f", CodeUri=str(tmp_path), Handler="app.app")
    function = functions_of(given, "us-east-1")["f"]
    assert (function.timeout, function.memory_mb, function.tracing) == (3.0, 128, False)
    assert functions_of(given, "us-west-2") == {}


def test_all_reasons_are_given_at_once() -> None:
    variables = {"A": 1, "AWS_REGION": "x"}
    given = deployment("f", CodeUri="relative", Handler="app", Environment={"Variables": variables})
    with pytest.raises(FunctionConfigError) as error:
        functions_of(given, "us-east-1")
    assert len(error.value.reasons) == 4


def test_environment_is_lambdas_and_not_the_developers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    given = deployment(
        "f",
        CodeUri=str(tmp_path),
        Handler="app.app",
        Runtime="python3.12",
        Environment={"Variables": {"LOG_LEVEL": "INFO", "SSL_CERT_FILE": "theirs"}},
    )
    seen = environment_of(
        functions_of(given, "us-east-1")["f"],
        runtime_api="127.0.1.10:4000",
        runtime_dir=Path("/var/runtime"),
        log_stream="stream",
        xray_daemon="127.0.1.10:2000",
        extra={"SSL_CERT_FILE": "lab.pem"},
    )
    assert seen["AWS_LAMBDA_RUNTIME_API"] == "127.0.1.10:4000"
    assert seen["LAMBDA_TASK_ROOT"] == str(tmp_path)
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.12"
    assert (seen["AWS_REGION"], seen["AWS_DEFAULT_REGION"]) == ("us-east-1", "us-east-1")
    assert seen["AWS_XRAY_DAEMON_ADDRESS"] == "127.0.1.10:2000"
    assert (seen["LOG_LEVEL"], seen["SSL_CERT_FILE"]) == ("INFO", "lab.pem")
    assert "AWS_PROFILE" not in seen


def test_runtime_dir_has_the_runtime_and_nothing_of_the_developer(tmp_path: Path) -> None:
    folder = make_runtime_dir(make_runtime_dir(tmp_path / "runtime"))
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    assert {"awslambdaric", "runtime_client", "boto3", "botocore", "urllib3"} <= names
    assert not {"chalice", "pytest", "aiohttp"} & names


HEADER = re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]")


def test_first_trace_of_each_second_and_five_percent_are_sampled() -> None:
    sampler = TraceSampler(random.Random(1))
    headers = [sampler.header(100.0, None, active=True) for _ in range(2001)]
    assert all(HEADER.fullmatch(h) for h in headers)
    assert headers[0].endswith("Sampled=1")
    assert 60 <= sum(h.endswith("Sampled=1") for h in headers[1:]) <= 140
    assert sampler.header(101.0, None, active=True).endswith("Sampled=1")
    assert sampler.header(102.0, None, active=False).endswith("Sampled=0")


def test_callers_root_and_decision_win() -> None:
    sampler = TraceSampler(random.Random(1))
    header = sampler.header(1.0, "Root=1-x-y; Parent=p;Sampled=0", active=True)
    assert header.startswith("Root=1-x-y;Parent=")
    assert header.endswith("Sampled=0")


def test_log_lines_are_lambdas(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path / "logs" / "f.log")
    log.start("id-1")
    log.end("id-1", 0.0123, 128, max_memory_mb=40, init_duration=0.5)
    log.close()
    assert log.path.read_text() == (
        "START RequestId: id-1 Version: $LATEST\n"
        "END RequestId: id-1\n"
        "REPORT RequestId: id-1\tDuration: 12.30 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 40 MB\tInit Duration: 500.00 ms\t\n"
    )

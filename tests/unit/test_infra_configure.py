"""A stage's part of `.chalice/config.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.configure import ConfigureError, configured, stage_part, write_config
from infra.stacks import Application, OutputRef, WiringError, stack_list
from infra.topology import Service, Topology

TOPOLOGY = Topology(
    "example.test",
    ("us-east-1", "us-west-2"),
    {"health": Service("health"), "a": Service("a"), "copy": Service("copy", code="a")},
)
STEPS = {s.name: s for s in stack_list(TOPOLOGY) if isinstance(s, Application)}
A = STEPS["application-a-us-west-2"]
CONFIG: dict[str, Any] = {
    "version": "2.0",
    "app_name": "a",
    "xray": True,
    "stages": {
        "us-east-1": {"lambda_timeout": 5},
        "us-west-2": {"lambda_timeout": 7, "environment_variables": {"LOG_LEVEL": "INFO"}},
    },
}


def test_the_stage_gets_name_region_and_endpoint_type() -> None:
    assert stage_part(TOPOLOGY, A, {}) == {
        "api_gateway_stage": "api",
        "api_gateway_endpoint_type": "REGIONAL",
        "environment_variables": {"SERVICE_NAME": "a"},
    }


def test_what_the_author_wrote_stays() -> None:
    result = configured(CONFIG, A, stage_part(TOPOLOGY, A, {}))

    assert result["xray"] is True
    assert result["stages"]["us-east-1"] == {"lambda_timeout": 5}
    assert result["stages"]["us-west-2"] == {
        "lambda_timeout": 7,
        "api_gateway_stage": "api",
        "api_gateway_endpoint_type": "REGIONAL",
        "environment_variables": {"LOG_LEVEL": "INFO", "SERVICE_NAME": "a"},
    }
    assert "SERVICE_NAME" not in json.dumps(CONFIG)


def test_services_that_share_code_get_names_of_their_own() -> None:
    step = STEPS["application-copy-us-east-1"]

    result = configured(CONFIG, step, stage_part(TOPOLOGY, step, {}))

    assert result["app_name"] == "copy"
    assert result["stages"]["us-east-1"]["environment_variables"] == {"SERVICE_NAME": "copy"}


def test_outputs_become_variables() -> None:
    step = replace(A, environment={**A.environment, "POOL": OutputRef("pool", "Arn")})

    part = stage_part(TOPOLOGY, step, {"pool": {"Arn": "arn:x"}})
    assert part["environment_variables"] == {"SERVICE_NAME": "a", "POOL": "arn:x"}
    with pytest.raises(WiringError, match=r"pool\.Arn"):
        stage_part(TOPOLOGY, step, {})


def test_all_faults_come_out_at_once() -> None:
    step = Application("app", "nobody", "health", "us-esat-1", {})

    with pytest.raises(ConfigureError) as caught:
        stage_part(TOPOLOGY, step, {})

    text = str(caught.value)
    assert "stage 'us-esat-1' is not a region of the topology; known are us-east-1" in text
    assert "service 'nobody' is not in the topology" in text
    assert "environment variable SERVICE_NAME is missing" in text
    assert "environment variable DEPENDENCIES is missing" in text
    assert len(caught.value.reasons) == 4


def test_values_that_are_no_strings_are_named() -> None:
    config = {
        **CONFIG,
        "environment_variables": {"TOP": 1},
        "stages": {
            "us-east-1": {
                "environment_variables": {"STAGE": True},
                "lambda_functions": {"api_handler": {"environment_variables": {"FUNCTION": None}}},
            }
        },
    }

    with pytest.raises(ConfigureError) as caught:
        configured(config, A, stage_part(TOPOLOGY, A, {}))

    assert [reason.split(" is ")[0] for reason in caught.value.reasons] == [
        "config.json: environment variable TOP",
        "stage us-east-1: environment variable STAGE",
        "stage us-east-1, function api_handler: environment variable FUNCTION",
    ]


def service_dir(folder: Path, text: str) -> Path:
    (folder / ".chalice").mkdir()
    (folder / ".chalice" / "config.json").write_text(text)
    return folder


def test_writing_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    folder = service_dir(tmp_path, json.dumps(CONFIG))

    assert write_config(folder, TOPOLOGY, A, {}) is True
    written = (folder / ".chalice" / "config.json").read_text()
    assert write_config(folder, TOPOLOGY, A, {}) is False

    assert json.loads(written) == configured(CONFIG, A, stage_part(TOPOLOGY, A, {}))
    assert [p.name for p in (folder / ".chalice").iterdir()] == ["config.json"]


def test_a_refused_step_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = service_dir(tmp_path, json.dumps(CONFIG))

    with pytest.raises(ConfigureError, match="us-esat-1"):
        write_config(folder, TOPOLOGY, replace(A, region="us-esat-1"), {})

    assert (folder / ".chalice" / "config.json").read_text() == json.dumps(CONFIG)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigureError, match=r"config\.json"):
        write_config(service_dir(tmp_path, text), TOPOLOGY, A, {})


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigureError, match="No such file"):
        write_config(tmp_path, TOPOLOGY, A, {})

"""`infra stacks` and `infra template`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.cli import main


@pytest.fixture
def topology_file(tmp_path: Path) -> str:
    (tmp_path / "services" / "a").mkdir(parents=True)
    (tmp_path / "services" / "a" / "app.py").touch()
    path = tmp_path / "topology.toml"
    path.write_text('domain = "example.test"\nregions = ["us-east-1", "us-west-2"]\n[services.a]\n')
    return str(path)


def test_the_steps_in_order(topology_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--topology", topology_file, "stacks"]) == 0

    out = capsys.readouterr().out
    assert out.startswith("   1  zone  (us-west-2: zone.yaml)\n        Domain = example.test\n")
    assert "application-a-us-east-1  (us-east-1: chalice deploy, a)" in out
    assert "        RestApiId = <application-a-us-east-1.RestAPIId>\n" in out
    assert "        after application-a-us-east-1, domain-a-us-east-1\n" in out
    assert out.endswith("        after routing-a, routing-api\n")


def test_the_steps_for_a_program(topology_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--topology", topology_file, "stacks", "--json"]) == 0

    steps = json.loads(capsys.readouterr().out)
    assert steps[0] == {
        "name": "zone",
        "region": "us-west-2",
        "template": "zone.yaml",
        "values": {"Domain": "example.test"},
        "needs": [],
    }
    assert {"folder": "a", "needs": ["logging-us-east-1"]}.items() <= steps[8].items()


@pytest.mark.parametrize("name", ["gateway", "gateway.yaml"])
def test_a_template_as_it_is_deployed(
    topology_file: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["--topology", topology_file, "template", name]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["Resources"]["RestApi"]["Properties"]["Body"]["paths"]


def test_what_cannot_be_used_is_said_on_one_exit_code(
    topology_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--topology", str(tmp_path / "none.toml"), "stacks"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert main(["--topology", topology_file, "template", "nothing"]) == 2
    assert "nothing.yaml: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "601", "soon", "nan"])
def test_how_often_aws_is_asked_is_a_number_of_seconds(
    topology_file: str, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--topology", topology_file, "--poll", seconds, "plan"])
    assert caught.value.code == 2
    assert "--poll" in capsys.readouterr().err


def test_a_topology_that_cannot_be_used_ends_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none.toml"
    assert main(["--topology", str(file), "plan"]) == 2
    assert f"  next: correct {file}, then the same command\n" in capsys.readouterr().err


def test_a_command_is_needed() -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2

"""A lab of a topology with every option: it starts, serves and moves as without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, RunningLab

pytestmark = pytest.mark.lab

DECLARED = (
    'domain = "example.test"\nregions = ["us-east-1", "us-west-2"]\n[services.service1]\n'
    "[options]\ncloudfront = true\naccelerated_recovery = true\nreadiness = true\n"
    "region_switch = true\n"
)


def test_options_change_nothing_of_what_the_lab_imitates(
    make_lab: Callable[..., RunningLab], tmp_path: Path
) -> None:
    (tmp_path / "services").symlink_to(ROOT / "services")
    (tmp_path / "topology.toml").write_text(DECLARED)

    lab = make_lab("--topology", str(tmp_path / "topology.toml"))

    first, second = (lab.face["regions"][r]["address"] for r in lab.recovery["regions"])
    host = lab.recovery["services"]["service1"]["host"]
    assert lab.dig(host) == [first]
    assert lab.dig("front.example.test") == lab.dig("front.example.test", "AAAA") == []
    moved = lab.failover("move", "service1", "--to", lab.recovery["regions"][1], "--yes")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert (lab.dig(host), lab.dig(host, "AAAA")) == ([second], [f"::ffff:{second}"])

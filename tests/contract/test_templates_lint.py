"""cfn-lint on what is deployed: every template, and the external API with its Body."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint, lint_file

from infra.templates import GATEWAY, TEMPLATES, template
from infra.topology import Service, Topology

REGIONS = ["us-east-1", "us-west-2"]


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_template_is_clean_in_both_regions(path: Path) -> None:
    assert [str(match) for match in lint_file(path, ManualArgs(regions=REGIONS))] == []


@pytest.mark.parametrize("count", [1, 50])
def test_the_rendered_external_api_is_clean_in_both_regions(count: int) -> None:
    services = {f"s{i}": Service(f"s{i}") for i in range(count)}
    text = json.dumps(
        template(GATEWAY, Topology("example.test", ("us-east-1", "us-west-2"), services))
    )

    assert [str(match) for match in lint(text, regions=REGIONS)] == []
    assert len(text) < 1_000_000  # a template in S3 may have 1 MB (CloudFormation quotas)


def test_the_types_of_arc_exist_only_where_the_switches_are_put() -> None:
    """If this fails, ARC_TYPE_REGIONS of infra.stacks can grow."""
    path = TEMPLATES / "routing.yaml"

    found = lint_file(path, ManualArgs(regions=["eu-west-1"]))

    assert {match.rule.id for match in found} == {"E3006"}

"""cfn-lint on what is deployed: every template, and the external API with its Body."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint, lint_file

from infra.templates import GATEWAY, TEMPLATES, template
from infra.topology import Options, Service, Topology

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


@pytest.mark.parametrize("name", ["readiness.yaml", "region-switch.yaml"])
@pytest.mark.parametrize("count", [1, 4, 48])
def test_a_rendered_option_is_clean_in_both_regions(name: str, count: int) -> None:
    text = json.dumps(template(name, with_options(count)))

    assert [str(match) for match in lint(text, regions=REGIONS)] == []


ALL = Options(True, True, True, True)
TELLING = (
    Options(alarm_email="oncall@example.org"),
    Options(alarm_topics={region: f"arn:aws:sns:{region}:111122223333:a" for region in REGIONS}),
)


@pytest.mark.parametrize(
    ("name", "options"), [("takeover.yaml", TELLING[0]), ("alarms.yaml", TELLING[1])]
)
def test_alarms_that_tell_somebody_are_clean_in_both_regions(name: str, options: Options) -> None:
    """The two forms that there are: a name put together, and a parameter."""
    text = json.dumps(template(name, with_options(1, options)))

    assert [str(match) for match in lint(text, regions=REGIONS)] == []


@pytest.mark.parametrize("options", TELLING, ids=["mail", "topics"])
def test_alarms_that_tell_somebody_have_room_for_as_many_services_as_fit(options: Options) -> None:
    """In a request, with names of 11 characters: docs/quotas.md."""
    assert size(template("alarms.yaml", with_options(48, options))) <= 51_200
    assert size(template("alarms.yaml", with_options(50, options))) > 51_200


def with_options(count: int, options: Options = ALL) -> Topology:
    names = ["todo", *(f"service-{n:03}" for n in range(1, count))]
    services = {n: Service(n, database="aurora" if n == "todo" else "") for n in names}
    return Topology("example.test", ("us-east-1", "us-west-2"), services, options=options)


def size(document: object) -> int:
    return len(json.dumps(document, separators=(",", ":")))


def test_a_plan_of_region_switch_has_room_for_as_many_services_as_fit() -> None:
    """48, where the control panels end: 100 blocks in a plan (ARC quotas), 10,240 characters in
    the policies of a role (IAM quotas), 200 parameters and 51,200 bytes in a request
    (CloudFormation quotas)."""
    document = template("region-switch.yaml", with_options(48))

    (workflow,) = document["Resources"]["Plan"]["Properties"]["Workflows"]
    assert len(workflow["Steps"]) == 1 + 48 + 1 <= 100
    assert len(document["Parameters"]) <= 200
    assert size(document) <= 51_200
    policies = document["Resources"]["ExecutionRole"]["Properties"]["Policies"]
    (statement,) = policies[0]["PolicyDocument"]["Statement"]
    arn = f"arn:aws:route53-recovery-control::111122223333:controlpanel/{'0' * 32}*"
    whole = {**statement, "Resource": [arn] * len(statement["Resource"])}
    assert size(whole) + size(policies[1]) <= 10_240


def test_readiness_has_room_for_26_services_in_a_request() -> None:
    """ARC's own quota, 10 resources in a cell, ends before: docs/options.md."""
    assert size(template("readiness.yaml", with_options(26))) <= 51_200
    assert size(template("readiness.yaml", with_options(30))) > 51_200

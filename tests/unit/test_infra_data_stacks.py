"""The stacks behind services with a database: wired, shared, ordered, absent without one."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

import pytest

from infra.configure import configured, stage_part
from infra.data_stacks import data_steps, zone_ids
from infra.stacks import (
    Application,
    OutputRef,
    Stack,
    Text,
    WiringError,
    network_of,
    parameters_of,
    stack_list,
)
from infra.templates import TEMPLATES, parse
from infra.topology import Service, Topology

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
DECLARED = {path.name: parse(path.read_text()) for path in TEMPLATES.glob("*.yaml")}
DATA = {
    "global-database",
    "secrets",
    *(f"{kind}-{r}" for r in REGIONS for kind in ("keys", "network", "users", "database")),
}


def topology(*databases: str, domain: str = "example.test") -> Topology:
    services = {"plain": Service("plain")}
    services |= {name: Service(name, "todo", database="aurora") for name in databases}
    return Topology(domain, REGIONS, services)


def steps(*databases: str) -> dict[str, Stack | Application]:
    return {step.name: step for step in stack_list(topology(*databases))}


def outputs() -> dict[str, dict[str, str]]:
    """Every output of the data stacks, named after itself."""
    return {
        step.name: {name: f"{step.name}/{name}" for name in DECLARED[step.template]["Outputs"]}
        for step in data_steps(topology("todo"))
    }


def application(region: str, *databases: str, name: str = "todo") -> Application:
    step = steps(*(databases or ("todo",)))[f"application-{name}-{region}"]
    assert isinstance(step, Application)
    return step


def test_without_a_database_there_is_none_of_them() -> None:
    assert not list(data_steps(topology()))
    assert not DATA & steps().keys()


@pytest.mark.parametrize("databases", [("todo",), ("todo", "orders")])
def test_each_once_however_many_services_use_it(databases: tuple[str, ...]) -> None:
    made = [s.name for s in stack_list(topology(*databases)) if s.name in DATA]

    assert sorted(made) == sorted(DATA)
    plain = application(EAST, *databases, name="plain")
    assert plain.environment == {"SERVICE_NAME": "plain"}
    assert not plain.network
    assert plain.needs == (f"logging-{EAST}",)


@pytest.mark.parametrize("databases", [("todo",), ("todo", "orders")])
def test_every_reference_is_to_an_output_of_an_earlier_step(databases: tuple[str, ...]) -> None:
    done: set[str] = set()
    for step in stack_list(topology(*databases)):
        assert set(step.needs) <= done
        done.add(step.name)
    known = outputs()
    for name in databases:
        for region in REGIONS:
            step = application(region, *databases, name=name)
            parameters_of(step, known)
            network_of(step, known)
    for stack in data_steps(topology(*databases)):
        parameters_of(stack, known)
        declared = DECLARED[stack.template]["Parameters"]
        needed = {key for key, body in declared.items() if "Default" not in body}
        assert needed <= stack.parameters.keys() <= declared.keys()


def test_the_order_of_the_members() -> None:
    made = steps("todo")

    assert "global-database" in made[f"database-{EAST}"].needs
    assert f"database-{EAST}" in made[f"database-{WEST}"].needs
    assert f"database-{WEST}" not in made[f"database-{EAST}"].needs
    assert made["secrets"].needs == (f"keys-{EAST}", f"keys-{WEST}")


def test_who_was_first_is_the_only_difference_of_the_members() -> None:
    made = steps("todo")
    east, west = (made[f"database-{region}"].values for region in REGIONS)

    assert (east["SeedMember"], west["SeedMember"]) == ("true", "false")
    assert east["GlobalClusterName"] == west["GlobalClusterName"]
    assert east["ApplicationSecretArn"] == OutputRef("secrets", "ApplicationSecretArn")
    assert west["ApplicationSecretArn"] == OutputRef("secrets", "ApplicationSecretReplicaArn")


def test_the_environment() -> None:
    found = parameters_of(application(WEST), outputs())

    assert found == {
        "SERVICE_NAME": "todo",
        "TENANTS": found["TENANTS"],
        "USER_POOL_ARNS": f"users-{EAST}/UserPoolArn,users-{WEST}/UserPoolArn",
        "DB_WRITER_HOST": f"database-{WEST}/WriterHost",
        "DB_READER_HOST": f"database-{WEST}/ReaderHost",
        "DB_NAME": "todo",
        "SECRET_ARN": "secrets/ApplicationSecretReplicaArn",
        "ADMIN_SECRET_ARN": "secrets/AdministratorSecretReplicaArn",
        "PRIMARY_REGION": EAST,
    }
    assert json.loads(found["TENANTS"]) == {
        f"users-{region}/{client}ClientId": tenant
        for region in REGIONS
        for client, tenant in (("Application", "application"), ("Operator", "operator"))
    }
    assert parameters_of(application(EAST), outputs())["TENANTS"] == found["TENANTS"]


def test_a_text_is_put_together_and_its_outputs_are_needed() -> None:
    step = Stack("s", EAST, "x.yaml", {"A": Text(("<", OutputRef("t", "O"), ">"))})

    assert step.needs == ("t",)
    assert parameters_of(step, {"t": {"O": "1,2"}}) == {"A": "<1,2>"}
    with pytest.raises(WiringError, match=r"t\.O"):
        parameters_of(step, {})


def test_the_stage_gets_its_network() -> None:
    part = stage_part(topology("todo"), application(EAST), {**outputs(), f"network-{EAST}": {
        "SubnetIds": "subnet-1,subnet-2", "FunctionSecurityGroupId": "sg-1",
    }})  # fmt: skip

    assert part["subnet_ids"] == ["subnet-1", "subnet-2"]
    assert part["security_group_ids"] == ["sg-1"]
    with pytest.raises(WiringError, match=r"network-us-east-1\.SubnetIds"):
        network_of(application(EAST), {})


def test_a_function_keeps_its_own_variables_and_loses_stand_ins() -> None:
    step = application(EAST)
    config: dict[str, Any] = {
        "stages": {
            EAST: {
                "lambda_functions": {
                    "migrate": {
                        "lambda_timeout": 60,
                        "environment_variables": {"ADMIN_SECRET_ARN": "stand-in", "OWN": "1"},
                    },
                    "other": {"lambda_timeout": 5},
                }
            }
        }
    }

    result = configured(config, step, stage_part(topology("todo"), step, outputs()))

    assert result["stages"][EAST]["lambda_functions"] == {
        "migrate": {
            "lambda_timeout": 60,
            "environment_variables": {
                "ADMIN_SECRET_ARN": "secrets/AdministratorSecretArn",
                "OWN": "1",
            },
        },
        "other": {"lambda_timeout": 5},
    }
    assert "stand-in" in json.dumps(config)


def test_the_networks_are_private_and_apart() -> None:
    made = steps("todo")
    networks = []
    for region in REGIONS:
        given = parameters_of(made[f"network-{region}"], {})
        network = ipaddress.ip_network(given["VpcCidr"])
        subnets = [ipaddress.ip_network(cidr) for cidr in given["SubnetCidrs"].split(",")]
        assert network.is_private
        assert all(s.subnet_of(network) for s in subnets)  # type: ignore[arg-type]
        assert not subnets[0].overlaps(subnets[1])
        networks.append(network)
    assert not networks[0].overlaps(networks[1])


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-east-1", ("use1-az1", "use1-az2")),
        ("us-west-1", ("usw1-az1", "usw1-az3")),
        ("eu-central-1", ("euc1-az1", "euc1-az2")),
        ("ap-southeast-2", ("apse2-az1", "apse2-az2")),
        ("ap-northeast-1", ("apne1-az1", "apne1-az4")),
        ("us-gov-west-1", ("usgw1-az1", "usgw1-az2")),
    ],
)
def test_zones_are_named_by_id(region: str, expected: tuple[str, str]) -> None:
    assert zone_ids(region) == expected


@pytest.mark.parametrize(
    "domain", ["a.io", "x" * 56 + ".org", "a--b.xn--c-d.example.com", "3m.com", "aws.io"]
)
def test_any_domain_gives_names_that_aws_takes(domain: str) -> None:
    for step in data_steps(topology("todo", domain=domain)):
        declared = DECLARED[step.template]["Parameters"]
        for name, value in step.parameters.items():
            rule = declared[name]
            if isinstance(value, str) and "AllowedPattern" in rule:
                assert re.fullmatch(rule["AllowedPattern"], value), (name, value)
                assert name != "DomainPrefix" or not re.search("aws|amazon|cognito", value)
                assert len(value) <= int(rule.get("MaxLength", 100)), (name, value)

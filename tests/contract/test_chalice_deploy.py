"""`chalice deploy`, redeploy and `chalice delete` of all services in both regions, for real.

Chalice is unmodified and runs as a process of its own in a working copy, against a local AWS API
that checks each request by botocore's models (`chalice_support`). What is there afterwards, and
which IAM actions it took, is compared with the services' own files and with the deployer's policy.
"""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from chalice_services_support import ACCOUNT, role_arn
from chalice_support import Call, LocalAws
from iam_support import allows, policy_faults, used

from infra.configure import write_config
from infra.stacks import Application, stack_list
from infra.topology import Service, Topology
from lab.stacks import outputs_before_applications

ROOT = Path(__file__).resolve().parents[2]
EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
NAMES = tuple(sorted(path.parent.name for path in (ROOT / "services").glob("*/app.py")))
TOPOLOGY = Topology(
    "example.test",
    REGIONS,
    {name: Service(name, database="aurora" if name == "todo" else "") for name in NAMES},
)
STEPS = {s.name: s for s in stack_list(TOPOLOGY) if isinstance(s, Application)}
OUTPUTS = outputs_before_applications(stack_list(TOPOLOGY), TOPOLOGY)
DEPLOYER = json.loads((ROOT / "infra/policies/deployer.json").read_text())
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
CHALICE = Path(sys.executable).with_name("chalice")
State = dict[str, Any]


def chalice(
    aws: LocalAws, service: Path, command: str, stage: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    environment = kept | {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_DEFAULT_REGION": stage,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [CHALICE, command, "--stage", stage],
        cwd=service, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def working_copy(folder: Path) -> Path:
    """`services/` as a clone has it, each stage configured as a deployment would."""
    ignore = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
    services = folder / "services"
    shutil.copytree(ROOT / "services", services, symlinks=True, ignore=ignore)
    for step in STEPS.values():
        write_config(services / step.folder, TOPOLOGY, step, OUTPUTS)
    return services


@dataclass
class Life:
    """What was there after each stage of the services' life, per region."""

    aws: LocalAws
    services: Path
    states: dict[str, dict[str, State]] = field(default_factory=dict)

    def done(self, what: str) -> None:
        self.states[what] = {r: copy.deepcopy(self.aws.state(r)) for r in REGIONS}

    def everywhere(self, command: str, regions: tuple[str, ...] = REGIONS) -> None:
        """One service after the other in each region, two services at a time."""

        def one(name: str) -> None:
            for region in regions:
                self.run(name, command, region)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, NAMES))

    def run(self, name: str, command: str, region: str) -> None:
        ended = chalice(self.aws, self.services / name, command, region)
        assert ended.returncode == 0, f"{command} {name} {region}:\n{ended.stdout}{ended.stderr}"


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with LocalAws() as aws:
        life = Life(aws, working_copy(tmp_path_factory.mktemp("clone")))
        life.everywhere("deploy")
        life.done("deployed")
        life.everywhere("deploy")
        life.done("again")
        change(life)
        life.everywhere("delete", (WEST,))
        life.done("west deleted")
        life.everywhere("delete", (EAST,))
        life.done("deleted")
        yield life


def change(life: Life) -> None:
    """A new line in service1, and a tag: first in the standby region, then in the other; then
    both taken back."""
    service = life.services / "service1"
    source, config = service / "app.py", service / ".chalice/config.json"
    before = source.read_text(), config.read_text()
    source.write_text(before[0] + "\nCHANGED = True\n")
    config.write_text(json.dumps({**json.loads(before[1]), "tags": {"team": "a"}}))
    life.run("service1", "deploy", WEST)
    life.done("changed in the west")
    life.run("service1", "deploy", EAST)
    source.write_text(before[0])
    config.write_text(before[1])
    for region in REGIONS:
        life.run("service1", "deploy", region)
    life.done("taken back")


def config_of(life: Life, name: str) -> dict[str, Any]:
    path = life.services / name / ".chalice/config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def function(state: State, name: str) -> dict[str, Any]:
    configuration: dict[str, Any] = state["functions"][name][0]
    return configuration


def api_of(state: State, name: str) -> tuple[str, Any]:
    ((found, api),) = (
        (i, api) for i, api in state["apis"].items() if api[0]["info"]["title"] == name
    )
    return found, api


both = pytest.mark.parametrize("region", REGIONS)
each = pytest.mark.parametrize("name", NAMES)


# --- what is there after the first deployment


@both
def test_every_service_has_its_functions_and_its_api(life: Life, region: str) -> None:
    state = life.states["deployed"][region]
    functions = {f"{name}-{region}" for name in NAMES} | {f"todo-{region}-migrate"}
    assert state["functions"].keys() == functions
    roles = {f"{name}-{region}-api_handler" for name in NAMES} | {f"todo-{region}-migrate"}
    assert state["roles"].keys() == roles
    assert {api[0]["info"]["title"] for api in state["apis"].values()} == set(NAMES)
    assert len(state["apis"]) == len(NAMES)


@both
@each
def test_a_function_is_as_its_configuration_says(life: Life, name: str, region: str) -> None:
    made = function(life.states["deployed"][region], f"{name}-{region}")
    config = config_of(life, name)
    stage = config["stages"][region]
    assert made["TracingConfig"] == {"Mode": "Active"}
    assert made["Environment"]["Variables"] == {
        **config["environment_variables"], **stage["environment_variables"],
    }  # fmt: skip
    assert made["Environment"]["Variables"]["SERVICE_NAME"] == name
    assert (made["MemorySize"], made["Timeout"]) == (
        config["lambda_memory_size"], config["lambda_timeout"],
    )  # fmt: skip
    assert (made["Runtime"], made["Handler"]) == (RUNTIME, "app.app")
    assert made["Role"] == role_arn(f"{name}-{region}-api_handler")
    vpc = made["VpcConfig"]
    assert vpc["SubnetIds"] == stage.get("subnet_ids", [])
    assert vpc["SecurityGroupIds"] == stage.get("security_group_ids", [])


@both
@each
def test_the_code_is_the_services_own(life: Life, name: str, region: str) -> None:
    ours = [c for c in life.aws.calls if c.operation == "CreateFunction" and c.region == region]
    (call,) = (c for c in ours if c.params["FunctionName"] == f"{name}-{region}")
    with zipfile.ZipFile(io.BytesIO(call.params["Code"]["ZipFile"])) as archive:
        assert archive.read("app.py") == (ROOT / "services" / name / "app.py").read_bytes()
        assert "regional/app.py" in archive.namelist()


@both
@each
def test_a_role_has_exactly_the_services_policy(life: Life, name: str, region: str) -> None:
    trust, policies = life.states["deployed"][region]["roles"][f"{name}-{region}-api_handler"]
    written = json.loads((ROOT / "services" / name / ".chalice/policy.json").read_text())
    assert list(policies.values()) == [written]
    assert [s["Principal"] for s in trust["Statement"]] == [{"Service": "lambda.amazonaws.com"}]


@both
@each
def test_an_api_is_regional_and_calls_the_function_of_its_region(
    life: Life, name: str, region: str
) -> None:
    state = life.states["deployed"][region]
    api_id, (definition, endpoint, _, stages, _) = api_of(state, name)
    assert endpoint == "REGIONAL"
    (stage,) = stages.values()
    assert list(stages) == ["api"]
    assert stage.tracing is True
    assert stage.definition == definition
    uris = {
        i["uri"] for methods in definition["paths"].values() for o in methods.values()
        if (i := o["x-amazon-apigateway-integration"])["type"] == "aws_proxy"
    }  # fmt: skip
    assert len(uris) == 1
    assert f":{region}:{ACCOUNT}:function:{name}-{region}/" in uris.pop()
    (statement,) = state["functions"][f"{name}-{region}"][3].values()
    source = statement["Condition"]["ArnLike"]["AWS:SourceArn"]
    assert source == f"arn:aws:execute-api:{region}:{ACCOUNT}:{api_id}/*"
    deployed = json.loads((ROOT / "services" / name / ".chalice/config.json").read_text())
    assert set(deployed["stages"]) == set(REGIONS)


@both
def test_todo_asks_for_the_tokens_of_both_pools_with_scopes(life: Life, region: str) -> None:
    _, (definition, *_) = api_of(life.states["deployed"][region], "todo")
    (authorizer,) = definition["securityDefinitions"].values()
    arns = authorizer["x-amazon-apigateway-authorizer"]["providerARNs"]
    assert arns == [OUTPUTS[f"users-{r}"]["UserPoolArn"] for r in REGIONS]
    open_to_all = {
        (path, method)
        for path, methods in definition["paths"].items()
        for method, operation in methods.items()
        if not any(scopes for entry in operation.get("security", []) for scopes in entry.values())
    }
    assert {path for path, method in open_to_all if method != "options"} == {"/"}


@both
def test_todos_second_function_has_a_role_and_a_secret_of_its_own(life: Life, region: str) -> None:
    state = life.states["deployed"][region]
    migrate = function(state, f"todo-{region}-migrate")
    assert migrate["Handler"] == "app.migrate"
    assert migrate["Timeout"] == 60
    assert migrate["TracingConfig"] == {"Mode": "Active"}
    assert migrate["Role"] == role_arn(f"todo-{region}-migrate")
    policy = json.loads((ROOT / "services/todo/.chalice/policy-migrate.json").read_text())
    assert list(state["roles"][f"todo-{region}-migrate"][1].values()) == [policy]
    secret = migrate["Environment"]["Variables"]["ADMIN_SECRET_ARN"]
    kind = "SecretArn" if region == EAST else "SecretReplicaArn"
    assert secret == OUTPUTS["secrets"][f"Administrator{kind}"]


def test_the_regions_share_nothing(life: Life) -> None:
    east, west = (life.states["deployed"][r] for r in REGIONS)
    for kind in ("functions", "apis", "roles"):
        assert not east[kind].keys() & west[kind].keys()
    assert EAST not in json.dumps(
        [f[0]["FunctionArn"] + f[0]["Role"] for f in west["functions"].values()]
    )


# --- afterwards


@both
def test_deploying_again_changes_nothing(life: Life, region: str) -> None:
    assert life.states["again"][region] == life.states["deployed"][region]


def test_a_changed_source_changes_that_function_in_that_region_only(life: Life) -> None:
    before, after = life.states["again"], life.states["changed in the west"]
    assert after[EAST] == before[EAST]
    name = f"service1-{WEST}"
    assert after[WEST]["functions"][name][1] != before[WEST]["functions"][name][1]
    assert after[WEST]["functions"][name][2]["team"] == "a"
    for kind, items in after[WEST].items():
        changed = {key for key in items if items[key] != before[WEST][kind].get(key)}
        assert changed == ({name} if kind == "functions" else set())


@both
def test_a_change_can_be_taken_back(life: Life, region: str) -> None:
    assert life.states["taken back"][region] == life.states["again"][region]


def test_deleting_one_region_leaves_the_other(life: Life) -> None:
    state = life.states["west deleted"]
    assert state[WEST] == {"functions": {}, "apis": {}, "roles": {}}
    assert state[EAST] == life.states["taken back"][EAST]


def test_nothing_is_left_behind(life: Life) -> None:
    for region in REGIONS:
        assert life.states["deleted"][region] == {"functions": {}, "apis": {}, "roles": {}}
    assert life.aws.account.roles == {}
    for name in NAMES:
        for region in REGIONS:
            left = life.services / name / ".chalice/deployed" / f"{region}.json"
            assert json.loads(left.read_text())["resources"] == []


def test_no_request_was_one_that_the_models_do_not_allow(life: Life) -> None:
    assert {c.service for c in life.aws.calls} == {"iam", "lambda", "apigateway"}
    assert {c.region for c in life.aws.calls} == set(REGIONS)
    refused = {(c.operation, c.refused.partition(":")[0]) for c in life.aws.calls if c.refused}
    assert refused == {  # all of them questions whether something is there yet
        ("GetRole", "NoSuchEntity"),
        ("GetFunction", "ResourceNotFoundException"),
        ("GetPolicy", "ResourceNotFoundException"),
    }


# --- the deployer's policy


def chalice_part() -> list[Mapping[str, Any]]:
    return [s for s in DEPLOYER["Statement"] if s["Sid"].startswith("Chalice")]


def test_the_deployer_may_do_all_that_was_done(life: Life) -> None:
    policy = {"Version": "2012-10-17", "Statement": chalice_part()}
    assert not list(policy_faults(DEPLOYER))
    asked = {permission for call in life.aws.calls for permission in call.permissions}
    assert [p for p in asked if not allows(policy, p.action, p.resource, dict(p.context))] == []


def test_the_deployer_may_do_nothing_that_was_not_done(life: Life) -> None:
    asked = {permission for call in life.aws.calls for permission in call.permissions}
    unused = []
    for statement in chalice_part():
        found = {used(statement, p.action, p.resource, dict(p.context)) for p in asked}
        actions, resources = statement["Action"], statement["Resource"]
        unused += [
            (statement["Sid"], action, resource)
            for action in ([actions] if isinstance(actions, str) else actions)
            for resource in ([resources] if isinstance(resources, str) else resources)
            if (action, resource) not in found
        ]
    assert unused == []


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:PutRolePolicy", role_arn("administrator"), {}),
        ("iam:PassRole", role_arn("a-us-east-1-b"), {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:AttachRolePolicy", role_arn("a-us-east-1-b"), {}),
        ("lambda:InvokeFunction", f"arn:aws:lambda:{EAST}:{ACCOUNT}:function:a-us-east-1", {}),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{EAST}:{ACCOUNT}:function:other", {}),
        ("lambda:AddPermission", f"arn:aws:lambda:{EAST}:{ACCOUNT}:function:a-us-east-1",
         {"lambda:Principal": "*"}),
        ("apigateway:DELETE", f"arn:aws:apigateway:{EAST}::/domainnames/api.example.test", {}),
        ("apigateway:POST", f"arn:aws:apigateway:{EAST}::/apikeys", {}),
    ],
)  # fmt: skip
def test_the_deployers_chalice_part_does_not_allow(
    action: str, resource: str, context: dict[str, str]
) -> None:
    policy = {"Version": "2012-10-17", "Statement": chalice_part()}
    assert not allows(policy, action, resource, context)


# --- a deployment that AWS refuses


def test_a_deployment_that_is_refused_fails_and_says_why(tmp_path: Path) -> None:
    services = working_copy(tmp_path)
    path = services / "service2/.chalice/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lambda_memory_size": 99_999}))
    with LocalAws() as aws:
        ended = chalice(aws, services / "service2", "deploy", EAST)
        refused: list[Call] = [c for c in aws.calls if c.by_model]
        assert ended.returncode != 0
        assert "99999 is more than" in ended.stdout + ended.stderr
        assert [c.operation for c in refused] == ["CreateFunction"]
        assert aws.account.region(EAST).functions == {}

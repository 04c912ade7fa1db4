"""`chalice package` of the todo service straight from the checkout, for both stages."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "services/todo"
REGIONS = ("us-east-1", "us-west-2")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Per region: the SAM template and the zip, made in a copy so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("todo") / "todo"
    shutil.copytree(SERVICE, copy, ignore=shutil.ignore_patterns("__pycache__", "deployments"))
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    environment |= {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
    made = {}
    for region in REGIONS:
        done = subprocess.run(
            [Path(sys.executable).with_name("chalice"), "package", "--stage", region, region],
            cwd=copy,
            env={**environment, "AWS_DEFAULT_REGION": region},
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        template = json.loads((copy / region / "sam.json").read_text())
        made[region] = (template["Resources"], copy / region / "deployment.zip")
    return made


@pytest.mark.parametrize("region", REGIONS)
def test_the_package_is_small_and_complete(packages, region):
    _, path = packages[region]
    assert path.stat().st_size < 2_000_000
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    assert {"app.py", "chalicelib/migrations/0001_tables.sql", "regional/app.py"} <= names
    tops = {name.split("/")[0] for name in names}
    assert "pymysql" in tops
    assert not tops & {"botocore", "boto3", "testing", "todo_testing.py"}


@pytest.mark.parametrize("region", REGIONS)
def test_both_functions_are_configured(packages, region):
    resources, _ = packages[region]
    api, migrate = (resources[name]["Properties"] for name in ("APIHandler", "Migrate"))
    for function in (api, migrate):
        assert function["Tracing"] == "Active"
        assert function["VpcConfig"]["SubnetIds"]
    assert api["Timeout"] < 29 < migrate["Timeout"]
    assert "ADMIN_SECRET_ARN" in migrate["Environment"]["Variables"]
    assert "ADMIN_SECRET_ARN" not in api["Environment"]["Variables"]
    assert api["Role"] != migrate["Role"]


@pytest.mark.parametrize("region", REGIONS)
def test_the_authorizer_has_both_pools_and_every_method_a_scope(packages, region):
    resources, _ = packages[region]
    document = resources["RestAPI"]["Properties"]["DefinitionBody"]
    (authorizer,) = document["securityDefinitions"].values()
    arns = authorizer["x-amazon-apigateway-authorizer"]["providerARNs"]
    assert [arn.split(":")[3] for arn in arns] == list(REGIONS)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scopes = [scope for entry in operation.get("security", []) for scope in entry["pools"]]
            assert len(scopes) == (path != "/"), (path, method)


def test_only_migrate_may_read_the_administrators_secret():
    for name, may in (("policy.json", False), ("policy-migrate.json", True)):
        text = (SERVICE / ".chalice" / name).read_text()
        assert ("todo/administrator" in text) is may
        for statement in json.loads(text)["Statement"]:
            if statement["Resource"] == "*":
                assert statement["Sid"] in ("Traces", "NetworkInterfacesInAVpcTakeNoResource")

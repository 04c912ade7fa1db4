"""What the data templates promise, read from the deployment that they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.recovery import recovery_document
from infra.stacks import Application, stack_list
from infra.templates import TEMPLATES, parse
from infra.topology import Service, Topology
from lab.model import Deployment, Resource
from lab.stacks import PackagedApplication, deploy, outputs_before_applications

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
TOPOLOGY = Topology("example.test", REGIONS, {"todo": Service("todo", database="aurora")})
NAMES = ("database", "global-database", "keys", "network", "secrets", "users")
DECLARED = {name: parse((TEMPLATES / f"{name}.yaml").read_text()) for name in NAMES}
SAM: dict[str, Any] = {
    "Resources": {
        "APIHandler": {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "app.app"}},
        "RestAPI": {
            "Type": "AWS::Serverless::Api",
            "Properties": {"StageName": "api", "DefinitionBody": {"swagger": "2.0", "paths": {}}},
        },
    },
    "Outputs": {"RestAPIId": {"Value": {"Ref": "RestAPI"}}},
}


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    packages = {("todo", region): PackagedApplication(SAM, Path("/nowhere")) for region in REGIONS}
    return deploy(stack_list(TOPOLOGY), TOPOLOGY, packages)


def only(deployment: Deployment, kind: str, region: str | None = None) -> Resource:
    (found,) = deployment.of_type(kind, region=region)
    return found


def test_the_global_cluster_is_empty_and_protected(deployment: Deployment) -> None:
    cluster = only(deployment, "AWS::RDS::GlobalCluster").properties

    assert "SourceDBClusterIdentifier" not in cluster
    assert cluster["Engine"] == "aurora-mysql"
    assert cluster["EngineVersion"].startswith("8.0.mysql_aurora.3.10.")  # the LTS line
    assert cluster["DeletionProtection"] is True
    assert len(DECLARED["global-database"]["Resources"]) == 1


@pytest.mark.parametrize("region", REGIONS)
def test_a_member_survives_a_switchover(deployment: Deployment, region: str) -> None:
    cluster = only(deployment, "AWS::RDS::DBCluster", region).properties
    declared = DECLARED["database"]["Resources"]["Cluster"]["Properties"]

    assert cluster["GlobalClusterIdentifier"] == "db-example-test"
    assert declared["GlobalClusterIdentifier"] == {"Ref": "GlobalClusterName"}  # no condition
    assert cluster["DeletionProtection"] is cluster["StorageEncrypted"] is True
    assert f":{region}:" in cluster["KmsKeyId"]
    assert cluster["BackupRetentionPeriod"] >= 7
    assert not cluster.keys() & {"EngineVersion", "ManageMasterUserPassword", "SourceRegion"}
    assert len(deployment.of_type("AWS::RDS::DBInstance", region=region)) == 2


def test_only_the_first_member_was_given_a_user(deployment: Deployment) -> None:
    east, west = (only(deployment, "AWS::RDS::DBCluster", r).properties for r in REGIONS)
    secret = next(
        r.physical_id for r in deployment.of_type("AWS::SecretsManager::Secret")
        if "administrator" in r.physical_id
    )  # fmt: skip

    for key in ("username", "password"):
        member = f"Master{'Username' if key == 'username' else 'UserPassword'}"
        assert east[member] == f"{{{{resolve:secretsmanager:{secret}:SecretString:{key}}}}}"
    assert east["DatabaseName"] == "todo"
    assert not west.keys() & {"MasterUsername", "MasterUserPassword", "DatabaseName"}
    assert east.keys() - west.keys() == {"MasterUsername", "MasterUserPassword", "DatabaseName"}


def test_no_template_says_who_writes() -> None:
    for name, document in DECLARED.items():
        assert not [p for p in document["Parameters"] if "primary" in p.lower()], name
        assert not [p for p in document["Parameters"] if "writer" in p.lower()], name


def test_what_would_hurt_to_lose_is_kept() -> None:
    kept = {
        "keys": ["Key"],
        "global-database": ["GlobalCluster"],
        "secrets": ["Application", "Administrator"],
        "database": ["Cluster", "FirstInstance", "SecondInstance"],
        "users": ["UserPool"],
    }
    for name, logical_ids in kept.items():
        for logical_id in logical_ids:
            resource = DECLARED[name]["Resources"][logical_id]
            policies = (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
            assert policies == ("Retain", "Retain"), logical_id


@pytest.mark.parametrize("region", REGIONS)
def test_the_proxy(deployment: Deployment, region: str) -> None:
    proxy = only(deployment, "AWS::RDS::DBProxy", region)
    group = only(deployment, "AWS::RDS::DBProxyTargetGroup", region).properties
    reader = only(deployment, "AWS::RDS::DBProxyEndpoint", region)
    cluster = only(deployment, "AWS::RDS::DBCluster", region)

    assert proxy.properties["RequireTLS"] is True
    assert [f":{region}:" in auth["SecretArn"] for auth in proxy.properties["Auth"]] == [True, True]
    assert group["TargetGroupName"] == "default"
    assert group["DBClusterIdentifiers"] == [cluster.physical_id]
    assert 3 <= group["ConnectionPoolConfigurationInfo"]["ConnectionBorrowTimeout"] <= 5
    assert reader.properties["TargetRole"] == "READ_ONLY"
    assert reader.properties["DBProxyName"] == proxy.physical_id
    outputs = deployment.outputs[f"database-{region}"]
    assert outputs["WriterHost"] == proxy.attributes["Endpoint"]
    assert outputs["ReaderHost"] == reader.attributes["Endpoint"]
    assert outputs["WriterHost"].endswith(f".{region}.rds.amazonaws.com")


def test_the_proxys_role_may_read_two_secrets_and_nothing_else() -> None:
    role = DECLARED["database"]["Resources"]["ProxyRole"]["Properties"]
    ((secrets, key),) = (p["PolicyDocument"]["Statement"] for p in role["Policies"])

    assert secrets["Resource"] == [
        {"Ref": "ApplicationSecretArn"},
        {"Ref": "AdministratorSecretArn"},
    ]
    assert key["Resource"] == {"Ref": "KeyArn"}
    assert (secrets["Action"], key["Action"]) == ("secretsmanager:GetSecretValue", "kms:Decrypt")


def test_secrets_are_generated_and_replicated(deployment: Deployment) -> None:
    secrets = deployment.of_type("AWS::SecretsManager::Secret")

    assert {s.region for s in secrets} == {EAST}
    for secret in secrets:
        assert "SecretString" not in secret.properties
        rule = secret.properties["GenerateSecretString"]
        assert json.loads(rule["SecretStringTemplate"]).keys() == {"username"}
        assert rule["PasswordLength"] <= 41
        (replica,) = secret.properties["ReplicaRegions"]
        assert replica["Region"] == WEST
        assert f":kms:{WEST}:" in replica["KmsKeyId"]
    outputs = deployment.outputs["secrets"]
    for owner in ("Application", "Administrator"):
        own, copy = outputs[f"{owner}SecretArn"], outputs[f"{owner}SecretReplicaArn"]
        assert own.replace(EAST, WEST) == copy != own


def test_one_path_through_the_network() -> None:
    resources = DECLARED["network"]["Resources"]
    rules = {
        (body["Type"].rpartition("SecurityGroup")[2], body["Properties"]["GroupId"]["Ref"],
         next(v["Ref"] for k, v in body["Properties"].items() if k.endswith("SecurityGroupId")),
         body["Properties"]["FromPort"], body["Properties"]["ToPort"])
        for body in resources.values()
        if body["Type"].startswith("AWS::EC2::SecurityGroup") and "GroupId" in body["Properties"]
    }  # fmt: skip
    paths = [
        ("FunctionSecurityGroup", "ProxySecurityGroup", 3306),
        ("ProxySecurityGroup", "ClusterSecurityGroup", 3306),
        ("FunctionSecurityGroup", "EndpointSecurityGroup", 443),
        ("ProxySecurityGroup", "EndpointSecurityGroup", 443),
    ]

    assert rules == {
        rule
        for one, other, port in paths
        for rule in (("Egress", one, other, port, port), ("Ingress", other, one, port, port))
    }
    text = json.dumps(resources)
    assert "0.0.0.0/0" not in text
    assert "InternetGateway" not in text
    assert "NatGateway" not in text


@pytest.mark.parametrize("region", REGIONS)
def test_the_clients_of_the_pools(deployment: Deployment, region: str) -> None:
    clients = {
        c.logical_id: c for c in deployment.of_type("AWS::Cognito::UserPoolClient", region=region)
    }
    scopes = {name: set(c.properties["AllowedOAuthScopes"]) for name, c in clients.items()}

    assert scopes == {
        "Application": {"api/read", "api/upsert-delete"},
        "Operator": {"api/operate", "api/read"},
    }
    for client in clients.values():
        assert len(client.physical_id) == 26
        assert client.properties["AllowedOAuthFlows"] == ["client_credentials"]
    pool = only(deployment, "AWS::Cognito::UserPool", region)
    assert pool.physical_id.startswith(f"{region}_")
    assert len(pool.physical_id) == len(region) + 10
    assert "ClientSecret" not in json.dumps([dict(c.attributes) for c in clients.values()])


def test_regions_have_nothing_in_common_but_names(deployment: Deployment) -> None:
    ids = [r.physical_id for r in deployment.of_type("AWS::Cognito::UserPoolClient")]
    hosts = [deployment.outputs[f"database-{r}"]["WriterHost"] for r in REGIONS]

    assert len(set(ids)) == 4
    assert len(set(hosts)) == 2


def test_the_outputs_that_packaging_needs_are_the_final_ones(deployment: Deployment) -> None:
    steps = stack_list(TOPOLOGY)
    early = outputs_before_applications(steps, TOPOLOGY)

    needed = {n for s in steps if isinstance(s, Application) for n in s.needs}
    assert needed <= early.keys()
    assert all(deployment.outputs[name] == given for name, given in early.items())
    assert not any(name.startswith(("application-", "mapping-todo")) for name in early)


def test_the_recovery_document(deployment: Deployment) -> None:
    endpoints = [{"region": "r", "url": "https://r.test/v1"}]
    document = recovery_document(TOPOLOGY, deployment.outputs, endpoints)
    database = document["services"]["todo"]["database"]

    assert database["global_cluster"] == "db-example-test"
    for region in REGIONS:
        cluster = only(deployment, "AWS::RDS::DBCluster", region)
        assert database["clusters"][region] == cluster.attributes["DBClusterArn"]
        assert database["proxies"][region] == f"db-example-test-{region}"
        assert document["tokens"][region]["token_url"].startswith("https://example-test-")
    assert "secret" not in json.dumps(document).lower()

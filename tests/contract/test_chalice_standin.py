"""The local AWS API refuses what botocore's models and AWS's own rules do not allow.

Without this, a deployment that passes against it would say little.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from chalice_apis_support import definition_faults
from chalice_services_support import ACCOUNT, role_arn
from chalice_support import LocalAws

EAST, WEST = "us-east-1", "us-west-2"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with LocalAws() as aws:
        yield aws


def client(aws: LocalAws, service: str, validate: bool = False) -> Any:
    return boto3.client(
        service,
        region_name=EAST,
        endpoint_url=aws.url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(parameter_validation=validate, retries={"total_max_attempts": 1}),
    )


def code() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("app.py", "")
    return archive.getvalue()


FUNCTION: dict[str, Any] = {
    "FunctionName": "a-us-east-1",
    "Role": role_arn("a"),
    "Runtime": "python3.11",
    "Handler": "app.app",
    "Code": {"ZipFile": code()},
}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"FunctionName": "with space"}, "does not match"),
        ({"Role": "a"}, "does not match"),
        ({"Runtime": "python2.0"}, "is not one of"),
        ({"MemorySize": 64}, "valid min value: 128"),
        ({"MemorySize": 99_999}, "is more than 32768"),
        ({"Timeout": "ten"}, "Invalid type"),
        ({"TracingConfig": {"Mode": "On"}}, "is not one of"),
        ({"Role": None}, "Missing required parameter"),
    ],
)
def test_it_refuses_what_the_model_does_not_allow(
    aws: LocalAws, changed: dict[str, Any], fault: str
) -> None:
    given = {k: v for k, v in {**FUNCTION, **changed}.items() if v is not None}
    with pytest.raises(ClientError, match=fault) as caught:
        client(aws, "lambda").create_function(**given)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert aws.calls[-1].by_model


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, "cannot be assumed by Lambda"),
        ({"Role": role_arn("trusted"), "Code": {"ZipFile": b"x"}}, "Could not unzip"),
        ({"Role": role_arn("trusted"), "Environment": {"Variables": {"AWS_REGION": "x"}}},
         "keeps these environment variables"),
        ({"Role": role_arn("trusted"), "Environment": {"Variables": {"AA": "x" * 4096}}},
         "exceed the 4KB limit"),
    ],
)  # fmt: skip
def test_it_refuses_what_lambda_would(aws: LocalAws, changed: dict[str, Any], fault: str) -> None:
    if "trusted" not in aws.account.roles:
        trust = {"Statement": [{"Principal": {"Service": "lambda.amazonaws.com"}}]}
        client(aws, "iam").create_role(
            RoleName="trusted", AssumeRolePolicyDocument=json.dumps(trust)
        )
    with pytest.raises(ClientError, match=fault):
        client(aws, "lambda").create_function(**{**FUNCTION, **changed})


def test_it_refuses_what_iam_would(aws: LocalAws) -> None:
    iam = client(aws, "iam", validate=True)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument='{"Statement": []}')
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="r", AssumeRolePolicyDocument='{"Statement": []}')
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "all"}]}
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=json.dumps(policy))
    policy["Statement"] = []
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=json.dumps(policy))
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName="r")


def test_it_answers_501_for_what_it_does_not_imitate(aws: LocalAws) -> None:
    with pytest.raises(ClientError, match="lambda:ListFunctions is not imitated"):
        client(aws, "lambda").list_functions()
    with pytest.raises(ClientError, match="sts:GetCallerIdentity is not imitated"):
        client(aws, "sts").get_caller_identity()


PROXY = {
    "type": "aws_proxy",
    "httpMethod": "POST",
    "uri": f"arn:aws:apigateway:{EAST}:lambda:path/2015-03-31/functions/"
    f"arn:aws:lambda:{EAST}:{ACCOUNT}:function:a-us-east-1/invocations",
}


def swagger(**changed: Any) -> dict[str, Any]:
    operation = {"x-amazon-apigateway-integration": PROXY}
    return {
        "swagger": "2.0", "info": {"title": "a"}, "paths": {"/": {"get": operation}}, **changed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"swagger": "3.0"}, "not a Swagger 2.0 document"),
        ({"info": {}}, "info.title"),
        ({"paths": {"/": {"get": {}}}}, "integration type None"),
        ({"paths": {"/{id}": {"get": {"x-amazon-apigateway-integration": PROXY}}}},
         "path parameters ['id'] are not declared"),
        ({"paths": {"/": {"get": {"x-amazon-apigateway-integration": PROXY,
                                  "security": [{"pools": []}]}}}}, "no authorizer 'pools'"),
        ({"securityDefinitions": {"pools": {"x-amazon-apigateway-authorizer": {
            "type": "cognito_user_pools", "providerARNs": [None]}}}}, "None is not the ARN"),
    ],
)  # fmt: skip
def test_it_refuses_an_api_that_does_not_hold_together(
    aws: LocalAws, changed: dict[str, Any], fault: str
) -> None:
    assert not list(definition_faults(swagger(), EAST))
    gateway = client(aws, "apigateway", validate=True)
    with pytest.raises(gateway.exceptions.BadRequestException) as caught:
        gateway.import_rest_api(body=json.dumps(swagger(**changed)))
    assert fault in str(caught.value)


def test_a_stage_logs_only_with_a_role_and_an_address_is_shut_by_the_update_after_it(
    aws: LocalAws,
) -> None:
    gateway = client(aws, "apigateway", validate=True)
    api = gateway.import_rest_api(body=json.dumps(swagger()))["id"]
    with pytest.raises(gateway.exceptions.NotFoundException):
        gateway.get_stage(restApiId=api, stageName="api")
    gateway.create_deployment(restApiId=api, stageName="api")
    stage = aws.account.region(EAST).apis[api].stages["api"]

    def replace(**values: str) -> list[dict[str, str]]:
        at = {"off": "/disableExecuteApiEndpoint", "rate": "/*/*/throttling/rateLimit",
              "log": "/accessLogSettings/destinationArn", "format": "/accessLogSettings/format",
              "unknown": "/x"}  # fmt: skip
        return [{"op": "replace", "path": at[n], "value": v} for n, v in values.items()]

    gateway.update_rest_api(restApiId=api, patchOperations=replace(off="True"))
    assert gateway.get_rest_api(restApiId=api)["disableExecuteApiEndpoint"]
    for refused in (replace(rate="1", log="arn", format="x"), replace(unknown="1")):
        with pytest.raises(gateway.exceptions.BadRequestException):
            gateway.update_stage(restApiId=api, stageName="api", patchOperations=refused)
    assert not stage.address_off
    assert gateway.get_stage(restApiId=api, stageName="api")["methodSettings"] == {}

    aws.account.log_roles[EAST] = role_arn("logs")
    with pytest.raises(gateway.exceptions.BadRequestException):  # a log without its fields
        gateway.update_stage(restApiId=api, stageName="api", patchOperations=replace(log="arn"))
    gateway.update_stage(
        restApiId=api, stageName="api", patchOperations=replace(rate="1", log="arn", format="x")
    )
    assert stage.address_off

    gateway.put_rest_api(restApiId=api, mode="overwrite", body=json.dumps(swagger()))
    assert not gateway.get_rest_api(restApiId=api)["disableExecuteApiEndpoint"]
    assert stage.address_off  # until the stage is updated
    gateway.create_deployment(restApiId=api, stageName="api")
    assert not stage.address_off
    assert stage.log == {"destinationArn": "arn", "format": "x"}


def test_an_api_of_another_regions_function_is_refused() -> None:
    (fault,) = definition_faults(swagger(), WEST)
    assert f"is no function of {WEST}" in fault


def test_it_refuses_what_is_not_signed(aws: LocalAws) -> None:
    status, *_, code = aws.handle("GET", "/restapis/a", {}, b"")
    assert (status, code) == (403, "MissingAuthenticationToken")


SCOPE = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/{}/aws4_request"


@pytest.mark.parametrize(
    ("service", "method", "target", "body", "fault"),
    [
        ("lambda", "POST", "/2015-03-31/functions", b'{"Nmae": "x"}', "does not know Nmae"),
        ("lambda", "GET", "/2015-03-31/functions/aa?colour=1", b"", "does not know the query"),
        ("lambda", "GET", "/2015-03-31/nothing", b"", "nothing answers"),
        ("iam", "POST", "/", b"Action=GetRole&Version=2010-05-08&Role=a", "does not know Role"),
        ("iam", "POST", "/", b"Action=GetRole&Version=2000-01-01&RoleName=a", "no action"),
    ],
)
def test_it_refuses_what_no_client_of_botocore_would_send(
    aws: LocalAws, service: str, method: str, target: str, body: bytes, fault: str
) -> None:
    headers = {"Authorization": SCOPE.format(service)}
    status, _, content, _ = aws.handle(method, target, headers, body)
    assert status in (400, 404)
    assert fault in content.decode()

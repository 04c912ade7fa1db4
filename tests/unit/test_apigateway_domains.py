"""Host names, base paths and default endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from lab.apigateway.configuration import GatewayConfigError, hosts_of
from lab.apigateway.responses import Refused
from lab.model import Deployment, Resource

BODY = {
    "paths": {
        "/": {
            "get": {
                "x-amazon-apigateway-integration": {
                    "type": "mock",
                    "requestTemplates": {"application/json": '{"statusCode": 200}'},
                    "responses": {"default": {"statusCode": "200"}},
                }
            }
        }
    }
}


def resource(type_: str, physical_id: str, region: str = "us-east-1", **given: Any) -> Resource:
    return Resource("stack", region, f"L{physical_id}", type_, physical_id, given, {})


def api(api_id: str, stage: str, **given: Any) -> list[Resource]:
    return [
        resource("AWS::ApiGateway::RestApi", api_id, Body=BODY, **given),
        resource("AWS::ApiGateway::Stage", stage, RestApiId=api_id, StageName=stage),
    ]


def mapping(domain: str, api_id: str, stage: str, **given: Any) -> Resource:
    return resource(
        "AWS::ApiGateway::BasePathMapping",
        f"{domain}|{given.get('BasePath', '')}",
        DomainName=domain,
        RestApiId=api_id,
        Stage=stage,
        **given,
    )


DEPLOYMENT = Deployment(
    (
        *api("apiapiapi1", "live"),
        *api("apiapiapi2", "prod", DisableExecuteApiEndpoint=True),
        resource("AWS::Serverless::Api", "apiapiapi3", DefinitionBody=BODY, StageName="api"),
        resource("AWS::ApiGateway::DomainName", "Api.example.test"),
        resource("AWS::ApiGateway::DomainName", "only.example.test"),
        resource("AWS::ApiGateway::DomainName", "else.example.test", region="us-west-2"),
        mapping("api.example.test", "apiapiapi1", "live"),
        mapping("api.example.test", "apiapiapi2", "prod", BasePath="v1"),
        mapping("api.example.test", "apiapiapi3", "api", BasePath="v1/deep"),
        mapping("only.example.test", "apiapiapi3", "api", BasePath="v2"),
    ),
    {},
)
HOSTS = hosts_of(DEPLOYMENT, "us-east-1")


@pytest.mark.semantics(54)
@pytest.mark.parametrize(
    ("host", "path", "api_id", "rest", "base"),
    [
        ("api.example.test", "/", "apiapiapi1", "/", ""),
        ("api.example.test", "/v1", "apiapiapi2", "/", "/v1"),
        ("api.example.test", "/v1/x", "apiapiapi2", "/x", "/v1"),
        ("api.example.test", "/v11/x", "apiapiapi1", "/v11/x", ""),
        ("api.example.test", "/v1/deep/x%2Fy", "apiapiapi3", "/x%2Fy", "/v1/deep"),
        ("only.example.test", "/v2/x", "apiapiapi3", "/x", "/v2"),
        ("apiapiapi1.execute-api.us-east-1.amazonaws.com", "/live/x", "apiapiapi1", "/x", "/live"),
        ("apiapiapi3.execute-api.us-east-1.amazonaws.com", "/api", "apiapiapi3", "/", "/api"),
    ],
)
def test_target(host: str, path: str, api_id: str, rest: str, base: str) -> None:
    target = HOSTS.target(host, path)
    assert (target.stage.api.id, target.path, target.base) == (api_id, rest, base)


@pytest.mark.semantics(54, 57)
@pytest.mark.parametrize(
    ("host", "path", "message"),
    [
        ("", "/", "Forbidden"),
        ("127.0.1.10", "/", "Forbidden"),
        ("else.example.test", "/", "Forbidden"),
        ("only.example.test", "/", "Forbidden"),
        ("apiapiapi2.execute-api.us-east-1.amazonaws.com", "/prod/", "Forbidden"),
        ("apiapiapi1.execute-api.us-east-1.amazonaws.com", "/nope/", "Forbidden"),
        ("apiapiapi1.execute-api.us-east-1.amazonaws.com", "/", "Missing Authentication Token"),
    ],
)
def test_refused(host: str, path: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        HOSTS.target(host, path)
    assert (refused.value.response.status, refused.value.response.message) == (403, message)


@pytest.mark.semantics(54)
def test_each_region_has_its_own_domains() -> None:
    assert hosts_of(DEPLOYMENT, "us-west-2").names == ("else.example.test",)


def test_all_reasons_are_given_at_once() -> None:
    broken = Deployment(
        (
            *api("apiapiapi1", "live"),
            resource("AWS::ApiGateway::RestApi", "bad", Body="text"),
            resource("AWS::ApiGateway::Stage", "s", RestApiId="bad", StageName="s"),
            resource("AWS::ApiGateway::Stage", "t", RestApiId="gone", StageName="t"),
            resource("AWS::ApiGateway::DomainName", "a.test"),
            mapping("b.test", "apiapiapi1", "live"),
            mapping("a.test", "apiapiapi1", "dead"),
            mapping("a.test", "apiapiapi1", "live"),
            mapping("a.test", "apiapiapi1", "live", BasePath="(none)"),
        ),
        {},
    )
    with pytest.raises(GatewayConfigError) as error:
        hosts_of(broken, "us-east-1")
    assert len(error.value.reasons) == 5

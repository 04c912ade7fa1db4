"""Reading OpenAPI and Swagger documents."""

from __future__ import annotations

from typing import Any

import pytest

from lab.apigateway.definition import (
    DefinitionError,
    HttpProxy,
    LambdaProxy,
    Method,
    Mock,
    read_api,
)

ARN = "arn:aws:lambda:us-east-1:111122223333:function:s-us-east-1"
INVOCATION = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{ARN}/invocations"


def document(integration: Any, **operation: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.1",
        "info": {"title": "t"},
        "paths": {"/a": {"get": {"x-amazon-apigateway-integration": integration, **operation}}},
    }


def only_method(document: dict[str, Any], **options: Any) -> Method:
    found = read_api("api", document, **options).router.match("/a")
    assert found is not None
    return found[0].methods["GET"]


def test_lambda_proxy() -> None:
    method = only_method(document({"type": "aws_proxy", "uri": INVOCATION}))
    assert method.integration == LambdaProxy(ARN, 29.0)
    assert method.authorization is None


def test_http_proxy() -> None:
    integration = {
        "type": "HTTP_PROXY",
        "httpMethod": "ANY",
        "uri": "https://${stageVariables.host}/v1/{proxy}?k=1",
        "timeoutInMillis": 3000,
        "requestParameters": {
            "integration.request.path.proxy": "method.request.path.proxy",
            "integration.request.header.X-Outer-Host": "context.domainName",
            "integration.request.querystring.from": "'gateway'",
        },
    }
    method = only_method(document(integration), stage_variables={"host": "s.example.test"})
    assert method.integration == HttpProxy(
        is_tls=True,
        host="s.example.test",
        port=443,
        path=("/v1/", "proxy", ""),
        query="k=1",
        method="ANY",
        timeout=3.0,
        path_parameters={"proxy": "method.request.path.proxy"},
        headers={"X-Outer-Host": "context.domainName"},
        querystring={"from": "'gateway'"},
    )


def test_mock_takes_the_response_of_its_status() -> None:
    integration = {
        "type": "mock",
        "requestTemplates": {"application/json": '{"statusCode": 204}'},
        "responses": {
            "default": {"statusCode": "500"},
            "2\\d\\d": {
                "statusCode": "200",
                "responseParameters": {"method.response.header.Allow": "'GET,OPTIONS'"},
                "responseTemplates": {"application/json": "{}"},
            },
        },
    }
    method = only_method(document(integration))
    assert method.integration == Mock(200, (("Allow", "GET,OPTIONS"),), "{}")


@pytest.mark.parametrize("place", ["swagger", "openapi"])
def test_cognito_authorizer_and_scopes(place: str) -> None:
    scheme = {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authtype": "cognito_user_pools",
        "x-amazon-apigateway-authorizer": {
            "type": "cognito_user_pools",
            "providerARNs": ["arn:pool-a", "arn:pool-b"],
        },
    }
    given = document({"type": "aws_proxy", "uri": INVOCATION}, security=[{"p": ["api/read"]}])
    given |= (
        {"securityDefinitions": {"p": scheme}}
        if place == "swagger"
        else {"components": {"securitySchemes": {"p": scheme}}}
    )
    authorization = only_method(given).authorization
    assert authorization is not None
    assert authorization.kind == "cognito_user_pools"
    assert authorization.provider_arns == ("arn:pool-a", "arn:pool-b")
    assert authorization.scopes == ("api/read",)


def test_all_reasons_are_given_at_once() -> None:
    given = document({"type": "aws", "uri": INVOCATION})
    given["paths"]["/b"] = {
        "get": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": "arn:wrong"}},
        "put": {},
        "x-amazon-apigateway-any-method": {
            "x-amazon-apigateway-integration": {
                "type": "http_proxy",
                "uri": "https://h/{proxy}",
                "timeoutInMillis": 10,
                "connectionType": "VPC_LINK",
            },
            "security": [{"nowhere": []}],
        },
        "post": {
            "x-amazon-apigateway-integration": {
                "type": "mock",
                "requestTemplates": {"application/json": "#set($x = 1)"},
            }
        },
    }
    given["x-amazon-apigateway-gateway-responses"] = {}
    given["paths"]["/b"]["put"]["x-amazon-apigateway-request-validator"] = "all"
    with pytest.raises(DefinitionError) as error:
        read_api("api", given)
    text = str(error.value)
    for reason in (
        "the API: x-amazon-apigateway-gateway-responses",
        "PUT /b: x-amazon-apigateway-request-validator",
        "GET /a: integration type 'aws'",
        "GET /b: uri 'arn:wrong'",
        "PUT /b: no x-amazon-apigateway-integration",
        "ANY /b: timeoutInMillis 10",
        "ANY /b: connectionType",
        "ANY /b: uri has {proxy}",
        "ANY /b: security scheme 'nowhere'",
        "POST /b: mock template",
    ):
        assert reason in text

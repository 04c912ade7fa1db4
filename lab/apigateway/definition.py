"""An API's definition, read from OpenAPI 3 or Swagger 2 with API Gateway's extensions. Pure.

Everything that can be settled once is settled here, so that a request only looks things up.

Downside: mapping templates with VTL, request validators, models, API keys, VPC links and
authorizers other than Cognito user pools are not imitated. A definition that needs one of the
first is refused (`DefinitionError`, all reasons at once); a method with such an authorizer is kept
and refuses every request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lab.apigateway.routes import ANY, Resource, Router

_NOT_IMITATED = ("gateway-responses", "request-validator", "policy")
DEFAULT_TIMEOUT = 29.0
"""Seconds (AWS docs "Amazon API Gateway quotas": 50 milliseconds to 29 seconds)."""

_EXTENSION = "x-amazon-apigateway-"
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}
_FUNCTION = re.compile(r":lambda:path/2015-03-31/functions/(?P<arn>[^/]+)/invocations$")
_VARIABLE = re.compile(r"\$\{stageVariables\.(\w+)\}")
_SOURCES = (
    "method.request.path.", "method.request.header.", "method.request.querystring.", "context.",
)  # fmt: skip
_PLACE = re.compile(r"\{(\w+)\}")


class DefinitionError(Exception):
    """The API can not be imitated; `reasons` lists everything that stands in the way."""

    def __init__(self, api: str, reasons: list[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"API {api} cannot be run:\n" + "\n".join(f"  - {r}" for r in reasons))


@dataclass(frozen=True, slots=True)
class LambdaProxy:
    """AWS_PROXY to a function."""

    function_arn: str
    timeout: float


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """HTTP_PROXY to `https://host:port` + path."""

    is_tls: bool
    host: str
    port: int
    path: tuple[str, ...]
    """Literal text and, at odd places, the names of path parameters."""
    query: str
    method: str
    timeout: float
    path_parameters: Mapping[str, str]
    """Name in `path` -> where its value comes from (a mapping expression)."""
    headers: Mapping[str, str]
    querystring: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mock:
    """MOCK with a fixed answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


Integration = LambdaProxy | HttpProxy | Mock


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a protected method asks for."""

    name: str
    kind: str
    """`cognito_user_pools`; anything else is not imitated."""
    provider_arns: tuple[str, ...]
    scopes: tuple[str, ...]
    header: str = "Authorization"


@dataclass(frozen=True, slots=True)
class Method:
    http_method: str
    resource_path: str
    integration: Integration
    authorization: Authorization | None


@dataclass(frozen=True, slots=True)
class Api:
    id: str
    name: str
    router: Router[Method]
    binary_types: frozenset[str]
    execute_api_enabled: bool = True


def read_api(
    api_id: str,
    document: Mapping[str, Any],
    *,
    stage_variables: Mapping[str, str] | None = None,
    execute_api_enabled: bool = True,
) -> Api:
    """The API of an OpenAPI 3 or Swagger 2 document. Raises DefinitionError."""
    reader = _Reader(document, stage_variables or {})
    router = Router(tuple(reader.resources()))
    if reader.reasons:
        raise DefinitionError(api_id, reader.reasons)
    return Api(
        id=api_id,
        name=str(document.get("info", {}).get("title", api_id)),
        router=router,
        binary_types=frozenset(document.get(_EXTENSION + "binary-media-types", ())),
        execute_api_enabled=execute_api_enabled,
    )


class _Reader:
    def __init__(self, document: Mapping[str, Any], stage_variables: Mapping[str, str]) -> None:
        self.reasons: list[str] = []
        self._document = document
        self._variables = stage_variables
        self._schemes: Mapping[str, Any] = document.get("securityDefinitions") or document.get(
            "components", {}
        ).get("securitySchemes", {})

    def resources(self) -> Iterator[Resource[Method]]:
        self._refuse_extensions("the API", self._document)
        for path, item in self._document.get("paths", {}).items():
            methods: dict[str, Method] = {}
            for key, operation in item.items():
                if key == _EXTENSION + "any-method":
                    name = ANY
                elif key in _METHODS:
                    name = key.upper()
                else:
                    continue
                method = self._method(name, path, operation)
                if method is not None:
                    methods[name] = method
            if methods:
                yield Resource(path, methods)

    def _refuse_extensions(self, at: str, given: Mapping[str, Any]) -> None:
        """Extensions that would change an answer and are not imitated."""
        for name in _NOT_IMITATED:
            if _EXTENSION + name in given:
                self.reasons.append(f"{at}: {_EXTENSION}{name} is not imitated")

    def _method(self, name: str, path: str, operation: Mapping[str, Any]) -> Method | None:
        at = f"{name} {path}"
        self._refuse_extensions(at, operation)
        given = operation.get(_EXTENSION + "integration")
        if not isinstance(given, Mapping):
            self.reasons.append(f"{at}: no {_EXTENSION}integration")
            return None
        kind = str(given.get("type", "")).lower()
        read = {"aws_proxy": self._lambda, "http_proxy": self._http, "mock": self._mock}.get(kind)
        if read is None:
            self.reasons.append(f"{at}: integration type {kind!r} is not imitated")
            return None
        integration = read(at, given)
        if integration is None:
            return None
        return Method(name, path, integration, self._authorization(at, operation))

    # --- integrations

    def _uri(self, at: str, given: Mapping[str, Any]) -> str:
        uri = given.get("uri")
        if not isinstance(uri, str):
            self.reasons.append(f"{at}: uri {uri!r} is not text")
            return ""
        return _VARIABLE.sub(lambda found: self._variables.get(found[1], ""), uri)

    def _timeout(self, at: str, given: Mapping[str, Any]) -> float:
        milliseconds = given.get("timeoutInMillis", DEFAULT_TIMEOUT * 1000)
        if not isinstance(milliseconds, int | float) or milliseconds < 50:
            self.reasons.append(f"{at}: timeoutInMillis {milliseconds!r} is not 50 or more")
            return DEFAULT_TIMEOUT
        return milliseconds / 1000

    def _lambda(self, at: str, given: Mapping[str, Any]) -> LambdaProxy | None:
        uri = self._uri(at, given)
        found = _FUNCTION.search(uri)
        if found is None:
            self.reasons.append(f"{at}: uri {uri!r} is not a function's invocation ARN")
            return None
        return LambdaProxy(found["arn"], self._timeout(at, given))

    def _http(self, at: str, given: Mapping[str, Any]) -> HttpProxy | None:
        uri = self._uri(at, given)
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            self.reasons.append(f"{at}: uri {uri!r} is not an http or https address")
            return None
        if str(given.get("connectionType", "INTERNET")).upper() != "INTERNET":
            self.reasons.append(f"{at}: connectionType other than INTERNET is not imitated")
        mapped: dict[str, dict[str, str]] = {"path": {}, "header": {}, "querystring": {}}
        for target, source in given.get("requestParameters", {}).items():
            place, _, name = target.removeprefix("integration.request.").partition(".")
            if place not in mapped or not is_expression(str(source)):
                self.reasons.append(f"{at}: requestParameters {target}: {source} is not imitated")
            else:
                mapped[place][name] = str(source)
        path = tuple(_PLACE.split(parts.path or "/"))
        for name in path[1::2]:
            if name not in mapped["path"]:
                self.reasons.append(f"{at}: uri has {{{name}}} and requestParameters do not")
        return HttpProxy(
            is_tls=parts.scheme == "https",
            host=parts.hostname,
            port=parts.port or (443 if parts.scheme == "https" else 80),
            path=path,
            query=parts.query,
            method=str(given.get("httpMethod", ANY)).upper(),
            timeout=self._timeout(at, given),
            path_parameters=mapped["path"],
            headers=mapped["header"],
            querystring=mapped["querystring"],
        )

    def _mock(self, at: str, given: Mapping[str, Any]) -> Mock | None:
        template = given.get("requestTemplates", {}).get("application/json", "")
        try:
            code = str(json.loads(template)["statusCode"])
        except (ValueError, KeyError, TypeError):
            self.reasons.append(f"{at}: mock template {template!r} is not a fixed statusCode")
            return None
        responses = given.get("responses", {})
        response = next(
            (r for p, r in responses.items() if p != "default" and re.fullmatch(p, code)),
            responses.get("default"),
        )
        if response is None:
            self.reasons.append(f"{at}: no response for status {code}")
            return None
        body = str(response.get("responseTemplates", {}).get("application/json", ""))
        if "$" in body or "#" in body:
            self.reasons.append(f"{at}: response template with VTL is not imitated")
        headers = []
        for target, source in response.get("responseParameters", {}).items():
            name = target.removeprefix("method.response.header.")
            if name == target or not _is_static(str(source)):
                self.reasons.append(f"{at}: responseParameters {target}: {source} is not imitated")
            else:
                headers.append((name, str(source)[1:-1]))
        return Mock(int(response.get("statusCode", code)), tuple(headers), body)

    # --- security

    def _authorization(self, at: str, operation: Mapping[str, Any]) -> Authorization | None:
        requirements = operation.get("security", self._document.get("security", ()))
        for requirement in requirements:
            for name, scopes in requirement.items():
                scheme = self._schemes.get(name)
                if scheme is None:
                    self.reasons.append(f"{at}: security scheme {name!r} is not defined")
                    continue
                if scheme.get("name", "").lower() == "x-api-key":
                    self.reasons.append(f"{at}: API keys are not imitated")
                    continue
                authorizer = scheme.get(_EXTENSION + "authorizer", {})
                kind = authorizer.get("type") or scheme.get(_EXTENSION + "authtype", "none given")
                return Authorization(
                    name=name,
                    kind=str(kind).lower(),
                    provider_arns=tuple(map(str, authorizer.get("providerARNs", ()))),
                    scopes=tuple(scopes),
                    header=str(scheme.get("name", "Authorization")),
                )
        return None


def _is_static(source: str) -> bool:
    return len(source) >= 2 and source[0] == source[-1] == "'"


def is_expression(source: str) -> bool:
    """A mapping expression that the gateway can evaluate."""
    return _is_static(source) or source.startswith(_SOURCES)

"""IAM, Lambda and API Gateway in memory, as far as Chalice calls them for these services.

Downside: everything is there at once (no Pending), policies are kept and not enforced, a function
is never run, and only the operations that are listed exist.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aws_protocol_support import Refused, Request
from iam_support import policy_faults

ACCOUNT = "111122223333"
METHODS = {"delete", "get", "head", "options", "patch", "post", "put"}
METHODS |= {"x-amazon-apigateway-any-method"}
RESERVED = re.compile(
    r"_HANDLER|_X_AMZN_TRACE_ID|AWS_(REGION|DEFAULT_REGION|LAMBDA_.*|ACCESS_KEY.*)"
)
"""Names of variables that Lambda keeps for itself (Lambda guide, "Defined runtime environment
variables"), those that a service could think of."""
LIMITS = {
    "/*/*/throttling/rateLimit": "throttlingRateLimit",
    "/*/*/throttling/burstLimit": "throttlingBurstLimit",
}
LOGS = {
    "/accessLogSettings/destinationArn": "destinationArn",
    "/accessLogSettings/format": "format",
}
"""Paths of patch operations -> members of a stage (API Gateway API reference, UpdateStage)."""
Result = dict[str, Any]


@dataclass
class Role:
    trust: dict[str, Any]
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Function:
    configuration: dict[str, Any]
    code: bytes
    tags: dict[str, str]
    statements: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Stage:
    tracing: bool
    definition: dict[str, Any]
    """What was deployed: API Gateway serves a snapshot."""
    address_off: bool = False
    """The `execute-api` address answers 403: the API's setting, when the stage was last updated."""
    limits: dict[str, float] = field(default_factory=dict)
    """Throttling of all methods."""
    log: dict[str, str] = field(default_factory=dict)
    """The access log."""


@dataclass
class RestApi:
    id: str
    definition: dict[str, Any]
    endpoint: str
    compression: str = ""
    address_off: bool = False
    """`disableExecuteApiEndpoint`; in force in a stage that is updated afterwards."""
    stages: dict[str, Stage] = field(default_factory=dict)
    deployments: int = 0


@dataclass
class Region:
    functions: dict[str, Function] = field(default_factory=dict)
    apis: dict[str, RestApi] = field(default_factory=dict)


class Account:
    """What there is: roles in no region, functions and APIs in each."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.regions: dict[str, Region] = {}
        self.log_roles: dict[str, str] = {}
        """Region -> API Gateway's role for logs in the account's settings."""
        self._made = 0

    def region(self, name: str) -> Region:
        return self.regions.setdefault(name, Region())

    def new_id(self) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()[:10]


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def function_arn(region: str, name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"


# ---- IAM


def _document(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refused("MalformedPolicyDocument", str(error)) from None
    return document


class Iam:
    """Roles and their inline policies; of the account, in no region."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Request], Result]] = {
            "CreateRole": self.create,
            "GetRole": self.get,
            "PutRolePolicy": self.put_policy,
            "ListRolePolicies": self.list_policies,
            "DeleteRolePolicy": self.delete_policy,
            "DeleteRole": self.delete,
        }

    def role(self, params: Mapping[str, Any]) -> Role:
        if params["RoleName"] not in self._account.roles:
            raise Refused("NoSuchEntity", f"The role {params['RoleName']} cannot be found.")
        return self._account.roles[params["RoleName"]]

    def shown(self, name: str) -> Result:
        return {
            "Role": {
                "Path": "/",
                "RoleName": name,
                "RoleId": f"AROA{hashlib.sha256(name.encode()).hexdigest()[:16].upper()}",
                "Arn": role_arn(name),
                "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
            }
        }

    def create(self, request: Request) -> Result:
        name = request.params["RoleName"]
        if name in self._account.roles:
            raise Refused("EntityAlreadyExists", f"Role with name {name} already exists.")
        self._account.roles[name] = Role(_document(request.params["AssumeRolePolicyDocument"]))
        return self.shown(name)

    def get(self, request: Request) -> Result:
        self.role(request.params)
        return self.shown(request.params["RoleName"])

    def put_policy(self, request: Request) -> Result:
        found, document = self.role(request.params), _document(request.params["PolicyDocument"])
        if faults := list(policy_faults(document)):
            raise Refused("MalformedPolicyDocument", "; ".join(faults))
        found.policies[request.params["PolicyName"]] = document
        return {}

    def list_policies(self, request: Request) -> Result:
        return {"PolicyNames": sorted(self.role(request.params).policies), "IsTruncated": False}

    def delete_policy(self, request: Request) -> Result:
        if self.role(request.params).policies.pop(request.params["PolicyName"], None) is None:
            raise Refused("NoSuchEntity", "there is no such policy")
        return {}

    def delete(self, request: Request) -> Result:
        if self.role(request.params).policies:
            raise Refused("DeleteConflict", "Cannot delete entity, must delete policies first.")
        del self._account.roles[request.params["RoleName"]]
        return {}


# ---- Lambda


def _check_code(code: bytes) -> None:
    if not zipfile.is_zipfile(io.BytesIO(code)):
        raise Refused(
            "InvalidParameterValueException", "Could not unzip uploaded file. Please check it."
        )


def _check_environment(given: Mapping[str, Any]) -> None:
    variables = given.get("Variables", {})
    if reserved := sorted(name for name in variables if RESERVED.fullmatch(name)):
        text = f"Lambda keeps these environment variables for itself: {', '.join(reserved)}"
        raise Refused("InvalidParameterValueException", text)
    if len(json.dumps(variables)) > 4096:
        text = "environment variables exceed the 4KB limit"
        raise Refused("InvalidParameterValueException", text)


class Lambda:
    """Functions, their tags and resource policies."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Request], Result]] = {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
            "DeleteFunction": self.delete,
            "DeleteFunctionConcurrency": self.no_concurrency,
            "ListTags": self.tags,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "GetPolicy": self.policy,
            "AddPermission": self.permit,
            "RemovePermission": self.forbid,
        }

    def find(self, request: Request) -> Function:
        asked = request.params.get("FunctionName") or request.params["Resource"]
        found = self._account.region(request.region).functions.get(asked.rpartition(":")[2])
        if found is None:
            text = f"Function not found: {function_arn(request.region, asked)}"
            raise Refused("ResourceNotFoundException", text)
        return found

    def check_role(self, arn: str) -> None:
        role = self._account.roles.get(arn.rpartition("/")[2])
        statements = role.trust["Statement"] if role else []
        principals = [s["Principal"].get("Service") for s in statements]
        if "lambda.amazonaws.com" not in principals:
            text = "The role defined for the function cannot be assumed by Lambda."
            raise Refused("InvalidParameterValueException", text)

    def set_code(self, function: Function, code: bytes) -> None:
        _check_code(code)
        function.code = code
        function.configuration |= {
            "CodeSize": len(code),
            "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
        }

    def configure(self, function: Function, params: Mapping[str, Any]) -> None:
        keys = ("Runtime", "Role", "Handler", "Timeout", "MemorySize", "Environment",
                "TracingConfig")  # fmt: skip
        if "Role" in params:
            self.check_role(params["Role"])
        _check_environment(params.get("Environment", {}))
        function.configuration |= {key: params[key] for key in keys if key in params}
        if "VpcConfig" in params:
            vpc = {"VpcId": "vpc-11111111111111111"} if params["VpcConfig"]["SubnetIds"] else {}
            function.configuration["VpcConfig"] = {**params["VpcConfig"], **vpc}

    def create(self, request: Request) -> Result:
        params = request.params
        name, own = params["FunctionName"], self._account.region(request.region).functions
        if name in own:
            raise Refused("ResourceConflictException", f"Function already exist: {name}")
        new = Function(
            {
                "FunctionName": name,
                "FunctionArn": function_arn(request.region, name),
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "PackageType": "Zip",
                "Version": "$LATEST",
                "Timeout": 3,
                "MemorySize": 128,
                "TracingConfig": {"Mode": "PassThrough"},
            },
            b"",
            dict(params.get("Tags", {})),
        )
        self.configure(new, params)
        self.set_code(new, params["Code"]["ZipFile"])
        own[name] = new
        return new.configuration

    def get(self, request: Request) -> Result:
        return {"Configuration": self.find(request).configuration, "Tags": self.find(request).tags}

    def update_code(self, request: Request) -> Result:
        function = self.find(request)
        self.set_code(function, request.params["ZipFile"])
        return function.configuration

    def update_configuration(self, request: Request) -> Result:
        function = self.find(request)
        self.configure(function, request.params)
        return function.configuration

    def delete(self, request: Request) -> Result:
        self.find(request)
        del self._account.region(request.region).functions[
            request.params["FunctionName"].rpartition(":")[2]
        ]
        return {}

    def no_concurrency(self, request: Request) -> Result:
        self.find(request)
        return {}

    def tags(self, request: Request) -> Result:
        return {"Tags": self.find(request).tags}

    def tag(self, request: Request) -> Result:
        self.find(request).tags.update(request.params["Tags"])
        return {}

    def untag(self, request: Request) -> Result:
        for key in request.params["TagKeys"]:
            self.find(request).tags.pop(key, None)
        return {}

    def policy(self, request: Request) -> Result:
        statements = self.find(request).statements
        if not statements:
            raise Refused("ResourceNotFoundException", "The resource you requested does not exist.")
        document = {"Version": "2012-10-17", "Id": "default", "Statement": [*statements.values()]}
        return {"Policy": json.dumps(document)}

    def permit(self, request: Request) -> Result:
        params, function = request.params, self.find(request)
        if params["StatementId"] in function.statements:
            raise Refused("ResourceConflictException", "The statement id already exists.")
        statement = {
            "Sid": params["StatementId"],
            "Effect": "Allow",
            "Principal": {"Service": params["Principal"]},
            "Action": params["Action"],
            "Resource": function.configuration["FunctionArn"],
            "Condition": {"ArnLike": {"AWS:SourceArn": params["SourceArn"]}},
        }
        function.statements[params["StatementId"]] = statement
        return {"Statement": json.dumps(statement)}

    def forbid(self, request: Request) -> Result:
        if self.find(request).statements.pop(request.params["StatementId"], None) is None:
            raise Refused("ResourceNotFoundException", "there is no such statement")
        return {}


# ---- API Gateway


def definition_faults(document: Any, region: str) -> Iterator[str]:
    """What would make an import of Chalice's Swagger fail or serve nothing."""
    if not isinstance(document, dict) or document.get("swagger") != "2.0":
        yield "not a Swagger 2.0 document"
        return
    if not document.get("info", {}).get("title"):
        yield "info.title is missing"
    authorizers = document.get("securityDefinitions", {})
    for name, authorizer in authorizers.items():
        yield from _authorizer_faults(name, authorizer)
    siblings: dict[str, str] = {}
    for path, methods in document.get("paths", {}).items():
        *_, last = parts = path.split("/")
        if not path.startswith("/"):
            yield f"{path}: a path begins with /"
        if last.startswith("{") and siblings.setdefault("/".join(parts[:-1]), last) != last:
            yield f"{path}: a sibling path part already has another name"
        for method, operation in methods.items():
            at = f"{method} {path}"
            yield from _operation_faults(at, method, operation, path, region)
            for entry in operation.get("security", []):
                yield from (f"{at}: no authorizer {n!r}" for n in entry if n not in authorizers)


def _authorizer_faults(name: str, authorizer: Mapping[str, Any]) -> Iterator[str]:
    given = authorizer.get("x-amazon-apigateway-authorizer", {})
    pool = re.compile(r"arn:aws:cognito-idp:[a-z0-9-]+:\d{12}:userpool/[\w-]+_[0-9A-Za-z]+")
    if given.get("type") != "cognito_user_pools":
        yield f"authorizer {name}: type {given.get('type')!r}"
    arns = given.get("providerARNs") or [None]
    for arn in arns:
        if not isinstance(arn, str) or not pool.fullmatch(arn):
            yield f"authorizer {name}: {arn!r} is not the ARN of a user pool"


def _operation_faults(
    at: str, method: str, operation: Mapping[str, Any], path: str, region: str
) -> Iterator[str]:
    if method not in METHODS:
        yield f"{at}: no such method"
    integration = operation.get("x-amazon-apigateway-integration", {})
    function = rf"arn:aws:lambda:{region}:{ACCOUNT}:function:[\w-]+"
    uri = rf"arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{function}/invocations"
    if integration.get("type") == "aws_proxy":
        if not re.fullmatch(uri, integration.get("uri", "")):
            yield f"{at}: integration {integration.get('uri')!r} is no function of {region}"
        if integration.get("httpMethod") != "POST":
            yield f"{at}: a function is invoked with POST"
    elif integration.get("type") != "mock":
        yield f"{at}: integration type {integration.get('type')!r}"
    declared = {p["name"] for p in operation.get("parameters", []) if p.get("in") == "path"}
    if missing := sorted(set(re.findall(r"\{(\w+)\+?\}", path)) - declared):
        yield f"{at}: path parameters {missing} are not declared"


class ApiGateway:
    """REST APIs imported from Swagger, with their stages."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Request], Result]] = {
            "ImportRestApi": self.import_,
            "PutRestApi": self.put,
            "GetRestApi": self.get,
            "UpdateRestApi": self.update,
            "CreateDeployment": self.deploy,
            "DeleteRestApi": self.delete,
            "GetStage": self.stage,
            "UpdateStage": self.update_stage,
        }

    def find(self, request: Request) -> RestApi:
        found = self._account.region(request.region).apis.get(request.params["restApiId"])
        if found is None:
            raise Refused("NotFoundException", "Invalid API identifier specified")
        return found

    def shown(self, api: RestApi) -> Result:
        return {
            "id": api.id,
            "name": api.definition["info"]["title"],
            "createdDate": datetime(2026, 1, 1, tzinfo=UTC),
            "endpointConfiguration": {"types": [api.endpoint]},
            "disableExecuteApiEndpoint": api.address_off,
        }

    def definition(self, request: Request) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(request.params["body"])
        except ValueError as error:
            raise Refused("BadRequestException", f"not JSON: {error}") from None
        if faults := list(definition_faults(document, request.region)):
            raise Refused("BadRequestException", "; ".join(faults))
        return document

    def import_(self, request: Request) -> Result:
        endpoint = request.params.get("parameters", {}).get("endpointConfigurationTypes", "EDGE")
        if endpoint not in ("EDGE", "REGIONAL", "PRIVATE"):
            raise Refused("BadRequestException", f"endpoint type {endpoint!r}")
        api = RestApi(self._account.new_id(), self.definition(request), endpoint)
        self._account.region(request.region).apis[api.id] = api
        return self.shown(api)

    def put(self, request: Request) -> Result:
        if request.params.get("mode") != "overwrite":
            raise Refused("BadRequestException", "only overwriting is imitated")
        api = self.find(request)
        api.definition = self.definition(request)
        api.address_off = False  # not documented; the worst case
        return self.shown(api)

    def get(self, request: Request) -> Result:
        return self.shown(self.find(request))

    def update(self, request: Request) -> Result:
        api = self.find(request)
        for patch in request.params["patchOperations"]:
            op, path, value = patch["op"], patch["path"], patch.get("value", "")
            small = value.isdecimal() and int(value) <= 10_485_760
            if (op, path) == ("replace", "/minimumCompressionSize") and (small or not value):
                api.compression = value
            elif (op, path) == ("replace", f"/endpointConfiguration/types/{api.endpoint}"):
                api.endpoint = value
            elif (op, path) == ("replace", "/disableExecuteApiEndpoint"):
                api.address_off = value.lower() == "true"
            else:
                raise Refused("BadRequestException", f"Invalid patch {op} {path} {value}")
        return self.shown(api)

    def deploy(self, request: Request) -> Result:
        api, name = self.find(request), request.params["stageName"]
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise Refused("BadRequestException", "Stage name only allows a-zA-Z0-9_-")
        api.deployments += 1
        stage = api.stages.setdefault(name, Stage(False, {}))
        stage.tracing = request.params.get("tracingEnabled", False)
        stage.definition, stage.address_off = api.definition, api.address_off
        return {"id": f"{api.id[:6]}{api.deployments}"}

    def stage(self, request: Request) -> Result:
        name = request.params["stageName"]
        found = self.find(request).stages.get(name)
        if found is None:
            raise Refused("NotFoundException", "Invalid stage identifier specified")
        settings = {"*/*": dict(found.limits)} if found.limits else {}
        return {"stageName": name, "methodSettings": settings, "accessLogSettings": found.log}

    def update_stage(self, request: Request) -> Result:
        """All operations or none; with the first one what the API says of its address holds."""
        self.stage(request)
        api = self.find(request)
        stage = api.stages[request.params["stageName"]]
        limits, log = dict(stage.limits), dict(stage.log)
        for patch in request.params["patchOperations"]:
            op, path, value = patch["op"], patch["path"], patch.get("value", "")
            if op == "replace" and path in LIMITS and value.isdecimal():
                limits[LIMITS[path]] = int(value)
            elif op == "replace" and path in LOGS and value:
                log[LOGS[path]] = value
            else:
                raise Refused("BadRequestException", f"Invalid patch {op} {path} {value}")
        if log and not self._account.log_roles.get(request.region):
            text = "CloudWatch Logs role ARN must be set in account settings to enable logging"
            raise Refused("BadRequestException", text)
        if log and (log.keys() != {"destinationArn", "format"} or "\n" in log["format"]):
            raise Refused("BadRequestException", f"Invalid access log {log}")
        stage.limits, stage.log, stage.address_off = limits, log, api.address_off
        return self.stage(request)

    def delete(self, request: Request) -> Result:
        del self._account.region(request.region).apis[self.find(request).id]
        return {}

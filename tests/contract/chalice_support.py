"""A local AWS API with what `chalice deploy` and `chalice delete` call: IAM, Lambda, API Gateway.

One HTTP server on loopback stands for all services and regions; a request is told apart by its
signature's scope and read by botocore's model of the operation (`aws_protocol_support`). Functions
and REST APIs are kept per region, roles per account. Every call is recorded with the IAM actions
that AWS would ask for.

Beyond the models it refuses what AWS refuses and what would hide a fault here: a role that Lambda
cannot assume, a code archive that is none, more than 4 KB of environment, a Swagger document whose
integrations, authorizers or path parameters do not hold together, the deletion of a role that has
policies.

Downside: everything is there at once (no Pending), IAM is recorded but not enforced, and a function
is never run. Operations that Chalice does not call for these services are not there and answer 501.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aws_protocol_support import ByModel, Refused, Request, answer, read, refusal
from iam_support import policy_faults

ACCOUNT = "111122223333"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method"}
RESERVED = re.compile(r"_HANDLER|_X_AMZN_TRACE_ID|AWS_(REGION|DEFAULT_REGION|LAMBDA_.*|ACCESS_KEY.*)")
"""Names of variables that Lambda keeps for itself (Lambda guide, "Defined runtime environment
variables"), those that a service could think of."""


@dataclass(frozen=True)
class Permission:
    """One IAM question that AWS would ask about the caller."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    region: str
    service: str
    operation: str
    params: Mapping[str, Any]
    permissions: tuple[Permission, ...]
    refused: str = ""
    """Why it was refused, else empty."""
    by_model: bool = False


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


@dataclass
class RestApi:
    id: str
    definition: dict[str, Any]
    endpoint: str
    compression: str = ""
    stages: dict[str, Stage] = field(default_factory=dict)
    deployments: int = 0


@dataclass
class Region:
    functions: dict[str, Function] = field(default_factory=dict)
    apis: dict[str, RestApi] = field(default_factory=dict)


Result = dict[str, Any]


class LocalAws:
    """The server and its state. A context manager; `url` is for AWS_ENDPOINT_URL."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.regions: dict[str, Region] = {}
        self.calls: list[Call] = []
        self._lock = threading.Lock()
        self._made = 0
        operations = (*_iam(self), *_lambda(self), *_apigateway(self))
        self._operations = {(f.service, f.name): f.run for f in operations}
        handler = type("Handler", (_Handler,), {"aws": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalAws:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def region(self, name: str) -> Region:
        return self.regions.setdefault(name, Region())

    def state(self, region: str) -> dict[str, Any]:
        """All of a region that a deployment decides, without counters; comparable."""
        own = self.region(region)
        return {
            "functions": {
                name: (f.configuration, hashlib.sha256(f.code).hexdigest(), f.tags, f.statements)
                for name, f in own.functions.items()
            },
            "apis": {
                api.id: (api.definition, api.endpoint, api.compression, api.stages)
                for api in own.apis.values()
            },
            "roles": {n: (r.trust, r.policies) for n, r in self.roles.items() if region in n},
        }  # fmt: skip

    def handle(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes, str]:
        """Status, content type, body, error type."""
        with self._lock:
            number = len(self.calls)
            request = None
            try:
                request = read(method, target, headers, body)
                permissions = tuple(permissions_of(request))
                run = self._operations.get((request.service, request.operation.name))
                if run is None:
                    text = f"{request.service}:{request.operation.name} is not imitated"
                    self._record(request, permissions, text)
                    return 501, "application/json", json.dumps({"message": text}).encode(), text
                result = run(request)
            except Refused as refused:
                permissions = tuple(permissions_of(request)) if request else ()
                self._record(request, permissions, str(refused), isinstance(refused, ByModel))
                return refusal(request, refused, number)
            self._record(request, permissions)
            return (*answer(request, result, number), "")

    def _record(
        self,
        request: Request | None,
        permissions: tuple[Permission, ...],
        refused: str = "",
        by_model: bool = False,
    ) -> None:
        known = (request.region, request.service, request.operation.name) if request else ("",) * 3
        params = request.params if request else {}
        self.calls.append(Call(*known, params, permissions, refused, by_model))

    def new_id(self) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()[:10]


class _Handler(BaseHTTPRequestHandler):
    aws: LocalAws
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, kind, content, error = self.aws.handle(self.command, self.path, self.headers, body)
        lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
        lines += [f"x-amzn-errortype: {error}"] * bool(error)
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _do

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Operation:
    service: str
    name: str
    run: Callable[[Request], Result]


# ---- which IAM actions AWS asks for (Service Authorization Reference of each service)


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def function_arn(region: str, name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"


def permissions_of(request: Request) -> Iterator[Permission]:
    params, name = request.params, request.operation.name
    if request.service == "iam":
        yield Permission(f"iam:{name}", role_arn(params.get("RoleName", "*")))
    elif request.service == "apigateway":
        yield Permission(
            f"apigateway:{request.method}", f"arn:aws:apigateway:{request.region}::{request.path}"
        )
    elif request.service == "lambda":
        function = params.get("FunctionName") or params.get("Resource") or "*"
        yield Permission(f"lambda:{name}", function_arn(request.region, function))
        if params.get("Tags") and name == "CreateFunction":
            yield Permission("lambda:TagResource", function_arn(request.region, function))
        if "Role" in params:
            to = (("iam:PassedToService", "lambda.amazonaws.com"),)
            yield Permission("iam:PassRole", params["Role"], to)
        if params.get("VpcConfig", {}).get("SubnetIds"):
            for kind in ("SecurityGroups", "Subnets", "Vpcs"):
                yield Permission(f"ec2:Describe{kind}", "*")
    else:
        yield Permission(f"{request.service}:{name}", "*")


# ---- IAM


def _document(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refused("MalformedPolicyDocument", str(error)) from None
    return document


def _iam(aws: LocalAws) -> Iterator[Operation]:
    def role(params: Mapping[str, Any]) -> Role:
        if params["RoleName"] not in aws.roles:
            raise Refused("NoSuchEntity", f"The role {params['RoleName']} cannot be found.")
        return aws.roles[params["RoleName"]]

    def shown(name: str) -> Result:
        return {
            "Role": {
                "Path": "/",
                "RoleName": name,
                "RoleId": f"AROA{hashlib.sha256(name.encode()).hexdigest()[:16].upper()}",
                "Arn": role_arn(name),
                "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
            }
        }

    def create(request: Request) -> Result:
        name = request.params["RoleName"]
        if name in aws.roles:
            raise Refused("EntityAlreadyExists", f"Role with name {name} already exists.")
        aws.roles[name] = Role(_document(request.params["AssumeRolePolicyDocument"]))
        return shown(name)

    def get(request: Request) -> Result:
        role(request.params)
        return shown(request.params["RoleName"])

    def put_policy(request: Request) -> Result:
        found, document = role(request.params), _document(request.params["PolicyDocument"])
        if faults := list(policy_faults(document)):
            raise Refused("MalformedPolicyDocument", "; ".join(faults))
        found.policies[request.params["PolicyName"]] = document
        return {}

    def list_policies(request: Request) -> Result:
        return {"PolicyNames": sorted(role(request.params).policies), "IsTruncated": False}

    def delete_policy(request: Request) -> Result:
        if role(request.params).policies.pop(request.params["PolicyName"], None) is None:
            raise Refused("NoSuchEntity", "there is no such policy")
        return {}

    def delete(request: Request) -> Result:
        if role(request.params).policies:
            raise Refused("DeleteConflict", "Cannot delete entity, must delete policies first.")
        del aws.roles[request.params["RoleName"]]
        return {}

    yield Operation("iam", "CreateRole", create)
    yield Operation("iam", "GetRole", get)
    yield Operation("iam", "PutRolePolicy", put_policy)
    yield Operation("iam", "ListRolePolicies", list_policies)
    yield Operation("iam", "DeleteRolePolicy", delete_policy)
    yield Operation("iam", "DeleteRole", delete)


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
        raise Refused("InvalidParameterValueException", "environment variables exceed the 4KB limit")


def _lambda(aws: LocalAws) -> Iterator[Operation]:
    def find(request: Request) -> Function:
        asked = request.params.get("FunctionName") or request.params["Resource"]
        found = aws.region(request.region).functions.get(asked.rpartition(":")[2])
        if found is None:
            text = f"Function not found: {function_arn(request.region, asked)}"
            raise Refused("ResourceNotFoundException", text)
        return found

    def check_role(arn: str) -> None:
        role = aws.roles.get(arn.rpartition("/")[2])
        principals = [s["Principal"].get("Service") for s in role.trust["Statement"]] if role else []
        if "lambda.amazonaws.com" not in principals:
            text = "The role defined for the function cannot be assumed by Lambda."
            raise Refused("InvalidParameterValueException", text)

    def set_code(function: Function, code: bytes) -> None:
        _check_code(code)
        function.code = code
        function.configuration |= {
            "CodeSize": len(code),
            "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
        }

    def configure(function: Function, params: Mapping[str, Any]) -> None:
        keys = ("Runtime", "Role", "Handler", "Timeout", "MemorySize", "Environment",
                "TracingConfig")  # fmt: skip
        if "Role" in params:
            check_role(params["Role"])
        _check_environment(params.get("Environment", {}))
        function.configuration |= {key: params[key] for key in keys if key in params}
        if "VpcConfig" in params:
            vpc = {"VpcId": "vpc-11111111111111111"} if params["VpcConfig"]["SubnetIds"] else {}
            function.configuration["VpcConfig"] = {**params["VpcConfig"], **vpc}

    def create(request: Request) -> Result:
        params = request.params
        name, own = params["FunctionName"], aws.region(request.region).functions
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
        configure(new, params)
        set_code(new, params["Code"]["ZipFile"])
        own[name] = new
        return new.configuration

    def get(request: Request) -> Result:
        return {"Configuration": find(request).configuration, "Tags": find(request).tags}

    def update_code(request: Request) -> Result:
        function = find(request)
        set_code(function, request.params["ZipFile"])
        return function.configuration

    def update_configuration(request: Request) -> Result:
        function = find(request)
        configure(function, request.params)
        return function.configuration

    def delete(request: Request) -> Result:
        find(request)
        del aws.region(request.region).functions[request.params["FunctionName"].rpartition(":")[2]]
        return {}

    def no_concurrency(request: Request) -> Result:
        find(request)
        return {}

    def tags(request: Request) -> Result:
        return {"Tags": find(request).tags}

    def tag(request: Request) -> Result:
        find(request).tags.update(request.params["Tags"])
        return {}

    def untag(request: Request) -> Result:
        for key in request.params["TagKeys"]:
            find(request).tags.pop(key, None)
        return {}

    def policy(request: Request) -> Result:
        statements = find(request).statements
        if not statements:
            raise Refused("ResourceNotFoundException", "The resource you requested does not exist.")
        document = {"Version": "2012-10-17", "Id": "default", "Statement": [*statements.values()]}
        return {"Policy": json.dumps(document)}

    def permit(request: Request) -> Result:
        params, function = request.params, find(request)
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

    def forbid(request: Request) -> Result:
        if find(request).statements.pop(request.params["StatementId"], None) is None:
            raise Refused("ResourceNotFoundException", "there is no such statement")
        return {}

    yield Operation("lambda", "CreateFunction", create)
    yield Operation("lambda", "GetFunction", get)
    yield Operation("lambda", "UpdateFunctionCode", update_code)
    yield Operation("lambda", "UpdateFunctionConfiguration", update_configuration)
    yield Operation("lambda", "DeleteFunction", delete)
    yield Operation("lambda", "DeleteFunctionConcurrency", no_concurrency)
    yield Operation("lambda", "ListTags", tags)
    yield Operation("lambda", "TagResource", tag)
    yield Operation("lambda", "UntagResource", untag)
    yield Operation("lambda", "GetPolicy", policy)
    yield Operation("lambda", "AddPermission", permit)
    yield Operation("lambda", "RemovePermission", forbid)


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


def _apigateway(aws: LocalAws) -> Iterator[Operation]:
    def find(request: Request) -> RestApi:
        found = aws.region(request.region).apis.get(request.params["restApiId"])
        if found is None:
            raise Refused("NotFoundException", "Invalid API identifier specified")
        return found

    def shown(api: RestApi) -> Result:
        return {
            "id": api.id,
            "name": api.definition["info"]["title"],
            "createdDate": datetime(2026, 1, 1, tzinfo=UTC),
            "endpointConfiguration": {"types": [api.endpoint]},
        }

    def definition(request: Request) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(request.params["body"])
        except ValueError as error:
            raise Refused("BadRequestException", f"not JSON: {error}") from None
        if faults := list(definition_faults(document, request.region)):
            raise Refused("BadRequestException", "; ".join(faults))
        return document

    def import_(request: Request) -> Result:
        endpoint = request.params.get("parameters", {}).get("endpointConfigurationTypes", "EDGE")
        if endpoint not in ("EDGE", "REGIONAL", "PRIVATE"):
            raise Refused("BadRequestException", f"endpoint type {endpoint!r}")
        api = RestApi(aws.new_id(), definition(request), endpoint)
        aws.region(request.region).apis[api.id] = api
        return shown(api)

    def put(request: Request) -> Result:
        if request.params.get("mode") != "overwrite":
            raise Refused("BadRequestException", "only overwriting is imitated")
        api = find(request)
        api.definition = definition(request)
        return shown(api)

    def get(request: Request) -> Result:
        return shown(find(request))

    def update(request: Request) -> Result:
        api = find(request)
        for patch in request.params["patchOperations"]:
            path, value = patch["path"], patch.get("value", "")
            if patch["op"] == "replace" and path == "/minimumCompressionSize":
                api.compression = value
            elif patch["op"] == "replace" and path == f"/endpointConfiguration/types/{api.endpoint}":
                api.endpoint = value
            else:
                raise Refused("BadRequestException", f"Invalid patch path {path}")
        return shown(api)

    def deploy(request: Request) -> Result:
        api, name = find(request), request.params["stageName"]
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise Refused("BadRequestException", "Stage name only allows a-zA-Z0-9_-")
        api.deployments += 1
        api.stages[name] = Stage(request.params.get("tracingEnabled", False), api.definition)
        return {"id": f"{api.id[:6]}{api.deployments}"}

    def delete(request: Request) -> Result:
        del aws.region(request.region).apis[find(request).id]
        return {}

    yield Operation("apigateway", "ImportRestApi", import_)
    yield Operation("apigateway", "PutRestApi", put)
    yield Operation("apigateway", "GetRestApi", get)
    yield Operation("apigateway", "UpdateRestApi", update)
    yield Operation("apigateway", "CreateDeployment", deploy)
    yield Operation("apigateway", "DeleteRestApi", delete)

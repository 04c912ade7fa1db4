"""IAM and Lambda in memory, as far as Chalice calls them for these services, and what there is of
them and of API Gateway (`chalice_apis_support`).

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aws_protocol_support import Refused, Request
from iam_support import policy_faults

ACCOUNT = "111122223333"
RESERVED = re.compile(
    r"_HANDLER|_X_AMZN_TRACE_ID|AWS_(REGION|DEFAULT_REGION|LAMBDA_.*|ACCESS_KEY.*)"
)
"""Names of variables that Lambda keeps for itself (Lambda guide, "Defined runtime environment
variables"), those that a service could think of."""
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

"""services/todo/openapi.yaml says what the code does: compared, then tried by schemathesis."""

import re
import sys
from pathlib import Path

import pytest
import schemathesis
import yaml
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_gateway import TOKEN, Gateway
from todo_testing import SERVICE, in_memory, load

DOCUMENT = yaml.safe_load((SERVICE / "openapi.yaml").read_text())
app, model, validation, fence = load(
    "app", "chalicelib.model", "chalicelib.validation", "chalicelib.fence"
)
METHODS = ("get", "post", "put", "patch", "delete")
SCHEMAS = DOCUMENT["components"]["schemas"]


def operations():
    return {
        (path, method): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_routes_and_scopes_are_those_of_the_code():
    described = {
        (path, method): [
            scope for entry in operation.get("security", []) for scope in entry["pools"]
        ]
        for (path, method), operation in operations().items()
    }
    declared = {
        (path, method.lower()): entry.authorizer.scopes if entry.authorizer else []
        for path, methods in app.app.routes.items()
        for method, entry in methods.items()
        if method != "HEAD"
    }
    assert described == declared
    flows = DOCUMENT["components"]["securitySchemes"]["pools"]["flows"]
    used = {scope for scopes in declared.values() for scope in scopes}
    assert set(flows["clientCredentials"]["scopes"]) == used


def test_head_is_declared_with_the_scope_of_get():
    for path, methods in app.app.routes.items():
        if "GET" in methods:
            assert methods["HEAD"].authorizer == methods["GET"].authorizer, path


def test_limits_and_members_are_those_of_the_code():
    assert SCHEMAS["Task"]["maxLength"] == model.MAX_TASK
    assert tuple(SCHEMAS["Status"]["enum"]) == model.STATUSES
    assert tuple(SCHEMAS["NewTodo"]["properties"]["status"]["enum"]) == model.STATUSES
    assert SCHEMAS["Page"]["properties"]["items"]["maxItems"] == validation.MAX_PAGE
    assert SCHEMAS["WantedFence"]["properties"]["epoch"]["maximum"] == fence.MAX_EPOCH
    assert SCHEMAS["WantedFence"]["properties"]["state"]["enum"] == [fence.OPEN, fence.DRAINING]
    made = in_memory()("POST", "/todos", {"task": "x"}).json
    assert list(SCHEMAS["Todo"]["properties"]) == list(made)
    settable = set(SCHEMAS["NewTodo"]["properties"])
    assert set(made) - settable == set(validation._READ_ONLY)


def test_every_operation_documents_the_answers_of_the_gateway():
    for (path, method), operation in operations().items():
        if operation.get("security"):
            assert "401" in operation["responses"], (path, method)


@pytest.fixture(scope="module")
def description():
    in_memory(shared_fence=False)
    app.app.log.setLevel("ERROR")
    config = SchemathesisConfig.from_dict(
        {
            "seed": 20261120,
            "continue-on-failure": True,
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "generation": {"max-examples": 25, "database": "none"},
            "checks": {
                # 412 is the right answer to a valid condition that does not hold.
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "304", "404", "409", "412"]
                }
            },
            "operations": [
                # No schema can say which page tokens are ours and which keys were used before.
                {
                    "include-name": "GET /todos",
                    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400"]}},
                },
                {
                    "include-name": "POST /todos",
                    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "422"]}},
                },
            ],
        }
    )
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)
    schema.app = Gateway(app.app)
    etags = re.compile(DOCUMENT["components"]["parameters"]["If-Match"]["schema"]["pattern"])

    @schema.hook
    def filter_case(_context, case):
        """Schemathesis calls the condition `0` valid, which the schema's pattern excludes."""
        if case.meta is None or case.meta.generation.mode.value != "positive":
            return True
        return all(
            etags.fullmatch(value)
            for name, value in (case.headers or {}).items()
            if name.lower() in ("if-match", "if-none-match")
        )

    yield schema
    app.app.log.setLevel("INFO")


def test_schemathesis_finds_nothing(description):
    """All its checks in all its phases: examples, coverage, fuzzing and stateful."""
    failures, errors, checks, phases = [], [], set(), set()
    for event in from_schema(description).execute():
        if isinstance(event, events.ScenarioFinished):
            phases.add(event.phase.value)
            for results in event.recorder.checks.values():
                checks |= {result.name for result in results}
                failures += [
                    (
                        event.label,
                        result.name,
                        result.failure_info.failure.message,
                        result.failure_info.code_sample,
                    )
                    for result in results
                    if result.failure_info
                ]
        elif isinstance(event, events.NonFatalError | events.FatalError):
            errors.append(event)
    assert not failures, failures[:5]
    assert not errors
    assert phases >= {"examples", "coverage", "fuzzing", "stateful"}
    assert checks >= {
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "positive_data_acceptance",
        "unsupported_method",
        "ignored_auth",
        "use_after_free",
        "ensure_resource_availability",
    }

"""The ToDo service: its routes, each with the scope that it needs. Behaviour: `chalicelib.service`.

Nothing is fetched or connected at import: the first request that needs the database reads the
secret and connects, so that the health check's `/` and a refused request cost neither.
"""

import os

from chalice import CognitoUserPoolAuthorizer, Response
from chalicelib.credentials import Credentials, secret_fetcher
from chalicelib.database import Database, tls_context
from chalicelib.errors import TodoError
from chalicelib.migrate import migrate as apply_migrations
from chalicelib.operations import MySqlOperations
from chalicelib.repository import MySqlRepository
from chalicelib.service import TodoService
from chalicelib.settings import Settings
from regional import App, Problem

app = App("todo")
settings = Settings.from_environment(os.environ)
fetch_secret = secret_fetcher(app.region, os.environ, tls_context)
database = Database(settings, Credentials(settings.secret_arn, fetch_secret), app.tracer.span)
service = TodoService(
    app.service,
    app.region,
    settings.tenants,
    MySqlRepository(database, app.region),
    MySqlOperations(database, app.region),
)

pools = CognitoUserPoolAuthorizer("pools", provider_arns=list(settings.user_pool_arns))
READ = pools.with_scopes(["api/read"])
CHANGE = pools.with_scopes(["api/upsert-delete"])
OPERATE = pools.with_scopes(["api/operate"])
ANY_TYPE = ["*/*"]
"""Chalice's own check would name one fault only; `chalicelib.validation` names them all."""


def answer(action):
    """What `action` replies to the current request. Raises Problem for its refusal."""
    try:
        reply = action(app.current_request.to_original_event())
    except TodoError as error:
        if error.status >= 500:
            fields = {"detail": error.detail, "cause": repr(error.__cause__)}
            app.log.warning("not available", extra={"fields": fields})
        raise Problem(
            error.status, error.detail, title=error.title, headers=error.headers, **error.extra
        ) from error
    headers = {**reply.headers, "Cache-Control": "no-store"}
    if reply.body:
        headers["Content-Type"] = "application/json"
    return Response(reply.body, headers, reply.status)


@app.route("/", content_types=ANY_TYPE)
def shallow():
    return answer(service.shallow)


@app.route("/todos", authorizer=READ, content_types=ANY_TYPE)
def list_todos():
    return answer(service.list)


@app.route("/todos", methods=["POST"], authorizer=CHANGE, content_types=ANY_TYPE)
def create_todo():
    return answer(service.create)


@app.route("/todos/{id}", authorizer=READ, content_types=ANY_TYPE)
def get_todo(id):  # noqa: ARG001  # Chalice passes the path's parameter by its name
    return answer(service.get)


@app.route("/todos/{id}", methods=["PUT"], authorizer=CHANGE, content_types=ANY_TYPE)
def put_todo(id):  # noqa: ARG001
    return answer(service.put)


@app.route("/todos/{id}", methods=["PATCH"], authorizer=CHANGE, content_types=ANY_TYPE)
def patch_todo(id):  # noqa: ARG001
    return answer(service.patch)


@app.route("/todos/{id}", methods=["DELETE"], authorizer=CHANGE, content_types=ANY_TYPE)
def delete_todo(id):  # noqa: ARG001
    return answer(service.delete)


@app.route("/_ops/depth", authorizer=OPERATE, content_types=ANY_TYPE)
def depth():
    return answer(service.depth)


@app.route("/_ops/lag", authorizer=OPERATE, content_types=ANY_TYPE)
def lag():
    return answer(service.lag)


@app.route("/_ops/fence", authorizer=OPERATE, content_types=ANY_TYPE)
def get_fence():
    return answer(service.get_fence)


@app.route("/_ops/fence", methods=["PUT"], authorizer=OPERATE, content_types=ANY_TYPE)
def put_fence():
    return answer(service.put_fence)


@app.lambda_function(name="migrate")
def migrate(event, context):  # noqa: ARG001
    """Bring the schema up to date. `{"primary_region": …}` overrides PRIMARY_REGION."""
    administrator = Credentials(settings.admin_secret_arn, fetch_secret)
    application = Credentials(settings.secret_arn, fetch_secret).login()
    return apply_migrations(
        Database(settings, administrator),
        app.region,
        (event or {}).get("primary_region") or settings.primary_region,
        application,
    )

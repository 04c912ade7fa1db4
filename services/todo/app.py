"""The ToDo service: its routes, each with the scope that it needs. Behaviour: `chalicelib.service`.

Nothing is fetched or connected at import: the first request that needs the database reads the
secret and connects, so that the health check's `/` and a refused request cost neither.
"""

import json
import os

from chalice import Chalice, CognitoUserPoolAuthorizer, Response

from chalicelib.credentials import Credentials, secret_fetcher
from chalicelib.database import Database, tls_context
from chalicelib.errors import TodoError
from chalicelib.migrate import migrate as apply_migrations
from chalicelib.operations import MySqlOperations
from chalicelib.repository import MySqlRepository
from chalicelib.service import TodoService
from chalicelib.settings import Settings

settings = Settings.from_environment(os.environ)
app = Chalice(app_name="todo")
authorizer = CognitoUserPoolAuthorizer("pools", provider_arns=list(settings.user_pool_arns))
READ = authorizer.with_scopes(["api/read"])
CHANGE = authorizer.with_scopes(["api/upsert-delete"])
OPERATE = authorizer.with_scopes(["api/operate"])
ANY_TYPE = ["*/*"]

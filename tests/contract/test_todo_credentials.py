"""The database secret: signed as botocore signs, fetched over HTTP and TLS, cached."""

import http.server
import json
import ssl
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_testing import load

credentials, errors = load("chalicelib.credentials", "chalicelib.errors")
ARN = "arn:aws:secretsmanager:us-east-1:111122223333:secret:todo/application-EXAMPLE"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRf"}


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_the_signature_is_botocores(token):
    host, body = "secretsmanager.us-east-1.amazonaws.com", b'{"SecretId": "x"}'
    moment = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
    keys = {**KEYS, "AWS_SESSION_TOKEN": token}
    mine = credentials.signed_headers(host, body, "us-east-1", keys, moment)

    request = AWSRequest(
        "POST",
        f"https://{host}/",
        data=body,
        headers={"Content-Type": mine["content-type"], "X-Amz-Target": mine["x-amz-target"]},
    )
    signer = SigV4Auth(
        BotoCredentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], token or None),
        "secretsmanager",
        "us-east-1",
    )
    request.headers["Host"] = host
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.context["timestamp"] = mine["x-amz-date"]
    request.headers["X-Amz-Date"] = mine["x-amz-date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signature = signer.signature(text, request)
    assert mine["authorization"].endswith(f"Signature={signature}")
    assert ("x-amz-security-token" in mine) is bool(token)


class SecretsManager(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's `answers` hold, the last one for ever."""

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.requests.append((dict(self.headers), json.loads(self.rfile.read(length))))
        answers = self.server.answers
        status, document = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        return None


@pytest.fixture
def endpoint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SecretsManager)
    server.requests = []
    secret = json.dumps({"username": "todo", "password": "p"})
    server.answers = [(200, {"SecretString": secret})]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def fetcher(endpoint, scheme="http", tls=ssl.create_default_context):
    url = f"{scheme}://127.0.0.1:{endpoint.server_port}"
    environment = {**KEYS, "AWS_ENDPOINT_URL_SECRETS_MANAGER": url, "AWS_ENDPOINT_URL": "http://no"}
    return credentials.secret_fetcher("us-east-1", environment, tls)


def test_the_login_is_fetched_once_until_it_is_refreshed(endpoint):
    now = [100.0]
    mine = credentials.Credentials(ARN, fetcher(endpoint), lambda: now[0])
    assert mine.login() == mine.login() == credentials.Login("todo", "p")
    assert "p" not in repr(mine.login()).split("password")[-1]
    ((headers, body),) = endpoint.requests
    assert body == {"SecretId": ARN}
    assert headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert mine.refresh() is False
    now[0] += credentials.REFRESH_INTERVAL
    assert mine.refresh() is True
    mine.login()
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("answers", "calls"),
    [
        ([(400, {"__type": "AccessDeniedException"})], 1),
        ([(400, {"__type": "ThrottlingException"})], 2),
        ([(500, {})], 2),
        ([(200, {"SecretString": "no json"})], 1),
        ([(200, {"SecretString": "{}"})], 1),
    ],
)
def test_a_secret_that_cannot_be_had_is_503(endpoint, answers, calls):
    endpoint.answers = answers
    with pytest.raises(errors.Unavailable):
        credentials.Credentials(ARN, fetcher(endpoint)).login()
    assert len(endpoint.requests) == calls


def test_one_server_error_is_survived(endpoint):
    endpoint.answers.insert(0, (500, {}))
    assert credentials.Credentials(ARN, fetcher(endpoint)).login().username == "todo"


def test_nobody_at_the_endpoint_is_503(endpoint):
    fetch = fetcher(endpoint, "https")  # a server that does not speak TLS
    with pytest.raises(errors.Unavailable):
        credentials.Credentials(ARN, fetch).login()


def test_the_endpoints_certificate_is_verified(endpoint, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)

    def trusting(one):
        client = ssl.create_default_context()
        one.configure_trust(client)
        return lambda: client

    assert fetcher(endpoint, "https", trusting(authority))(ARN)
    with pytest.raises(errors.Unavailable):
        fetcher(endpoint, "https", trusting(stranger))(ARN)

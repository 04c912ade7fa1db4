"""What `chalice package`, unmodified, makes of the services: contents and size, and that it runs.

The packages are made from a copy of `services/` as a clone has it, symbolic links and all. The
programs at the end run in the unzipped package with the Lambda runtime's own libraries out of
reach, so a package that misses something fails here.
"""

import datetime
import importlib.util
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("health", "service1", "service2")
REGIONS = ("us-east-1", "us-west-2")
REAL_BOTOCORE = ("botocore/", "boto3/", "s3transfer/", "jmespath/", "urllib3/")


def chalice_package(service: Path, region: str) -> Path:
    """The folder with sam.json and deployment.zip."""
    environment = os.environ | {"AWS_DEFAULT_REGION": region, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("chalice"), "package", "--stage", region, f"out-{region}/"],
        cwd=service, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return service / f"out-{region}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`services/` as it comes out of git."""
    folder = tmp_path_factory.mktemp("clone") / "services"
    ignore = shutil.ignore_patterns("__pycache__", "deployments", "deployed", "todo")
    shutil.copytree(ROOT / "services", folder, symlinks=True, ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def packages(clone: Path) -> dict[tuple[str, str], Path]:
    return {
        (name, region): chalice_package(clone / name, region)
        for name in NAMES
        for region in REGIONS
    }


@pytest.fixture(scope="module")
def unzipped(
    packages: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folders = {}
    for name in NAMES:
        folders[name] = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(packages[name, REGIONS[0]] / "deployment.zip") as archive:
            archive.extractall(folders[name])
    return folders


@pytest.mark.parametrize("name", NAMES)
def test_a_package_has_what_it_needs_and_no_more(
    packages: dict[tuple[str, str], Path], name: str
) -> None:
    path = packages[name, REGIONS[0]] / "deployment.zip"
    files = set(zipfile.ZipFile(path).namelist())
    shared = {f"regional/{p.name}" for p in (ROOT / "services/shared/regional").glob("*.py")}
    assert shared <= files
    assert {"app.py", "chalice/app.py", "aws_xray_sdk/core/recorder.py"} <= files
    assert not [f for f in files if f.startswith(REAL_BOTOCORE)]
    assert not [f for f in files if "__pycache__" in f or f.endswith(".pyc")]
    assert not [f for f in files if f.startswith(("tests/", "wheels/", ".chalice/", "vendor/"))]
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_both_stages_have_the_same_code_and_their_own_environment(
    packages: dict[tuple[str, str], Path], name: str
) -> None:
    codes = {(packages[name, r] / "deployment.zip").read_bytes() for r in REGIONS}
    assert len(codes) == 1
    for region in REGIONS:
        template = json.loads((packages[name, region] / "sam.json").read_text())
        function = template["Resources"]["APIHandler"]["Properties"]
        assert function["Tracing"] == "Active"
        assert function["Environment"]["Variables"]["SERVICE_NAME"] == name
        api = template["Resources"]["RestAPI"]["Properties"]
        assert api["EndpointConfiguration"] == "REGIONAL"
        assert "/" in api["DefinitionBody"]["paths"]


def test_a_copy_without_links_packages_the_same(
    clone: Path, packages: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    ignore = shutil.ignore_patterns("out-*", "deployments")
    shutil.copytree(clone / "service1", tmp_path / "service1", ignore=ignore)
    assert not (tmp_path / "service1/vendor/regional").is_symlink()
    made = zipfile.ZipFile(chalice_package(tmp_path / "service1", REGIONS[0]) / "deployment.zip")
    other = zipfile.ZipFile(packages["service1", REGIONS[0]] / "deployment.zip")
    assert {i.filename: i.CRC for i in made.infolist()} == {
        i.filename: i.CRC for i in other.infolist()
    }


def test_the_empty_wheel_is_what_its_script_makes(tmp_path: Path) -> None:
    path = ROOT / "services/shared/build_wheels.py"
    spec = importlib.util.spec_from_file_location("build_wheels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built = module.build(tmp_path)
    (checked_in,) = (ROOT / "services/shared/wheels").iterdir()
    assert (built.name, built.read_bytes()) == (checked_in.name, checked_in.read_bytes())
    assert zipfile.ZipFile(built).testzip() is None


# --- the package runs

EVENT = {
    "resource": "/", "path": "/", "httpMethod": "GET", "headers": {}, "multiValueHeaders": {},
    "queryStringParameters": None, "multiValueQueryStringParameters": None,
    "pathParameters": None, "stageVariables": None, "body": None, "isBase64Encoded": False,
    "requestContext": {"resourcePath": "/", "httpMethod": "GET"},
}  # fmt: skip
SAMPLED = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
CALL = """
import json, sys
class Context: aws_request_id = "8476a536"
import app
event = json.loads(sys.argv[1])
sys.stderr.write(json.dumps(app.app(event, Context)))
"""


def run(folder: Path, program: str, *arguments: str, **environment: str) -> str:
    """What `program` wrote to stderr, in the package as its working directory."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "AWS_REGION": "us-east-1", "LAMBDA_TASK_ROOT": str(folder)}
        | environment,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """An X-Ray daemon's UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        yield listening


def traced(daemon: socket.socket, folder: Path, program: str) -> dict[str, Any]:
    """The subsegment that one sampled request sent, without what differs each time."""
    address = f"127.0.0.1:{daemon.getsockname()[1]}"
    answer = run(
        folder, program, json.dumps(EVENT),
        _X_AMZN_TRACE_ID=SAMPLED, AWS_XRAY_DAEMON_ADDRESS=address,
    )  # fmt: skip
    assert json.loads(answer)["statusCode"] == 200
    header, _, document = daemon.recv(65536).decode().partition("\n")
    assert json.loads(header) == {"format": "json", "version": 1}
    subsegment: dict[str, Any] = json.loads(document)
    assert subsegment.pop("id")
    assert subsegment.pop("end_time") >= subsegment.pop("start_time")
    return subsegment


def test_a_sampled_request_sends_what_the_whole_sdk_sends(
    unzipped: dict[str, Path], daemon: socket.socket
) -> None:
    lean = traced(daemon, unzipped["service1"], CALL)
    whole = traced(daemon, unzipped["service1"], "import aws_xray_sdk.core\n" + CALL)
    assert lean == whole
    assert lean["name"] == "service1"
    assert lean["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert lean["parent_id"] == "53995c3f42cd8ad8"
    assert lean["annotations"] == {"region": "us-east-1", "status": 200}


AFTERWARDS = """
assert not {"wrapt", "asyncio", "inspect", "random"} & sys.modules.keys()
from aws_xray_sdk.core import patch, xray_recorder
for use in (lambda: patch(("sqlite3",)), lambda: xray_recorder.capture("name")(len)):
    try:
        use()
    except RuntimeError as error:
        assert "app.tracer.span" in str(error)
    else:
        raise AssertionError("it did nothing")
import wrapt                        # the real one
assert callable(wrapt.wrap_function_wrapper)
"""


def test_the_parts_left_out_are_not_imported_and_say_so(
    unzipped: dict[str, Path], daemon: socket.socket
) -> None:
    traced(daemon, unzipped["service1"], CALL + AFTERWARDS)


PATCHED = """
import json, sys
class Context: aws_request_id = "8476a536"
from regional import App
app = App("patched", patch=("sqlite3",))
@app.route("/")
def root():
    import sqlite3
    with app.tracer.span("below"):
        assert hasattr(sqlite3.connect, "__wrapped__")
    return {}
sys.stderr.write(json.dumps(app(json.loads(sys.argv[1]), Context)))
"""


def test_an_application_that_patches_a_library_gets_the_patcher(
    unzipped: dict[str, Path], daemon: socket.socket
) -> None:
    assert traced(daemon, unzipped["service1"], PATCHED)["name"] == "below"
    assert json.loads(daemon.recv(65536).decode().partition("\n")[2])["name"] == "patched"


def test_a_request_that_is_not_sampled_does_not_import_the_sdk(unzipped: dict[str, Path]) -> None:
    program = CALL + "\nassert not [m for m in sys.modules if m.startswith('aws_xray')]"
    assert json.loads(run(unzipped["service1"], program, json.dumps(EVENT)))["statusCode"] == 200


class Sibling(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 500)
        self.send_header("X-Region", "us-east-1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def sibling(tmp_path: Path) -> Iterator[int]:
    """An HTTPS server for *.example.test; its authority is ca.pem in `tmp_path`."""
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example.test", not_after=expires).configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sibling)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


def deep(folder: Path, dependencies: dict[str, Any], authority: Path) -> tuple[int, dict[str, Any]]:
    context = {"resourcePath": "/deep", "httpMethod": "GET"}
    written = run(
        folder, CALL, json.dumps({**EVENT, "path": "/deep", "requestContext": context}),
        DEPENDENCIES=json.dumps(dependencies), SSL_CERT_FILE=str(authority),
        SERVICE_NAME="health", CHECK_TIMEOUT_SECONDS="0.5",
    )  # fmt: skip
    answer = json.loads(written)
    assert answer["headers"]["X-Region"] == "us-east-1"
    return answer["statusCode"], json.loads(answer["body"])


def test_the_deep_check_asks_over_verified_tls(
    unzipped: dict[str, Path], sibling: int, tmp_path: Path
) -> None:
    dependencies = {"a": {"url": f"https://a.example.test:{sibling}", "address": "127.0.0.1"}}
    status, body = deep(unzipped["health"], dependencies, tmp_path / "ca.pem")
    assert (status, body["status"], body["service"]) == (200, "ok", "health")
    check = body["checks"]["a"]
    assert check.pop("milliseconds") > 0
    assert check == {"status": "ok", "detail": "HTTP 200 from us-east-1"}


def test_the_deep_check_names_everything_that_does_not_work(
    unzipped: dict[str, Path], sibling: int, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dependencies = {
            "fine": {"url": f"https://a.example.test:{sibling}/", "address": "127.0.0.1"},
            "failing": {"url": f"https://a.example.test:{sibling}/x", "address": "127.0.0.1"},
            "stranger": {"url": f"https://b.example.test:{sibling}", "address": "127.0.0.1"},
            "silent": f"https://127.0.0.1:{silent.getsockname()[1]}",
            "refused": f"https://127.0.0.1:{closed.getsockname()[1]}",
        }
        status, body = deep(unzipped["health"], dependencies, tmp_path / "ca.pem")
    assert (status, body["status"], body["region"]) == (503, 503, "us-east-1")
    assert body["detail"].startswith("4 of 5 dependencies do not work: failing, refused, silent")
    details = {name: check["detail"] for name, check in body["checks"].items()}
    assert body["checks"]["fine"]["status"] == "ok"
    assert details["failing"] == "HTTP 500 from us-east-1"
    assert "CERTIFICATE_VERIFY_FAILED" in details["stranger"]
    assert details["silent"] == "no answer within 0.5 s"
    assert "refused" in details["refused"]

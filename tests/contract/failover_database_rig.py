"""The rig with one more service, `todo`, that has a database: RDS, token endpoints and operator
routes of two regions, scripted, over real sockets on loopback."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import trustme
from failover_rig import DOMAIN, EAST, REGIONS, WEST, Rig, control_arn, rule_arn

TODO = "todo"
DATABASE = "tododb"
GLOBAL = "todo-global"
SECRET = "an operator's secret: /+%"
TOKEN = "operator-token"
NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"


def cluster_arn(region: str) -> str:
    return f"arn:aws:rds:{region}:111122223333:cluster:todo-{region}"


@dataclass
class Database:
    """What RDS and the fence know. `delay`: seconds that a switchover takes."""

    writer: str = EAST
    fence: dict[str, Any] = field(
        default_factory=lambda: {"epoch": 7, "active_region": EAST, "state": "open"}
    )
    delay: float = 0.0
    target: str = ""
    due: float = 0.0
    data_loss: bool = False
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(region, action, parameters) of the RDS API."""
    routes: list[tuple[str, str, str]] = field(default_factory=list)
    """(region, method, path) of the operator routes."""
    tokens: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    """action → HTTP status and error code with which it is refused."""
    accepted: set[str] = field(default_factory=lambda: {TOKEN})
    """Tokens that the gateway takes."""
    issued: str = TOKEN
    hanging: set[str] = field(default_factory=set)
    """Routes that never answer."""
    keep_alive: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)
    released: threading.Event = field(default_factory=threading.Event)

    def settle(self) -> None:
        with self.lock:
            if self.target and time.monotonic() >= self.due:
                self.writer, self.target = self.target, ""

    def begin(self, target: str, data_loss: bool) -> None:
        with self.lock:
            self.target, self.data_loss = target, data_loss
            self.due = time.monotonic() + self.delay

    def actions(self) -> list[str]:
        return [action for _, action, _ in self.calls if not action.startswith("Describe")]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    context: ssl.SSLContext | None = None
    answering: Callable[[http.server.BaseHTTPRequestHandler], None]

    def setup(self) -> None:
        if self.context is not None:
            self.request.settimeout(5)
            self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        type(self).answering(self)

    def do_PUT(self) -> None:
        type(self).answering(self)

    def do_POST(self) -> None:
        type(self).answering(self)

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *args: object) -> None:
        pass


class Listener:
    """One HTTP(S) listener; `answer` gets every request."""

    def __init__(
        self,
        address: str,
        port: int,
        answer: Callable[[http.server.BaseHTTPRequestHandler], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        kind = type(
            "OneHandler", (Handler,), {"context": context, "answering": staticmethod(answer)}
        )
        self.server = Server((address, port), kind)
        self.port = self.server.server_port
        self.up = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self.up:
            self.up = False
            self.server.shutdown()
            self.server.server_close()


def reply(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    kind: str = "application/json",
    **headers: str,
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": kind, **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class DatabaseRegion:
    """RDS API, token endpoint and todo's gateway of one region."""

    def __init__(
        self, name: str, address: str, port: int, context: ssl.SSLContext, database: Database
    ) -> None:
        self.name, self.address, self.database = name, address, database
        self.gateway = Listener(address, port, self.todo, context)
        self.rds = Listener(address, 0, self.query)
        self.pool = Listener(address, 0, self.token, context)

    def close(self) -> None:
        for listener in (self.gateway, self.rds, self.pool):
            listener.close()

    # ---- todo

    def todo(self, request: http.server.BaseHTTPRequestHandler) -> None:
        database = self.database
        length = int(request.headers.get("Content-Length", 0))
        content = request.rfile.read(length)
        if not request.path.startswith("/_ops/"):
            reply(request, 200, json.dumps({"region": self.name}).encode(), X_Region=self.name)
            return
        database.routes.append((self.name, request.command, request.path))
        if f"{request.command} {request.path} {self.name}" in database.hanging:
            database.released.wait(30)
            return
        if request.headers.get("Authorization") not in database.accepted:
            reply(request, 401, b'{"message": "Unauthorized"}')
            return
        with database.lock:
            database.settle()
            status, document = self.operate(request.command, request.path, content)
        reply(request, status, json.dumps(document).encode(), X_Region=self.name)
        if not database.keep_alive:
            request.close_connection = True

    def operate(self, method: str, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        database = self.database
        fence, writes = database.fence, database.writer == self.name
        if path == "/_ops/lag":
            beat = {"region": database.writer, "epoch": 7, "at": "now", "age_milliseconds": 4.0}
            return 200, {"lag_milliseconds": None, "heartbeat": beat}
        if path == "/_ops/depth":
            is_open = fence["active_region"] == self.name and fence["state"] == "open"
            return 200, {
                "writable": writes and is_open,
                "readable": True,
                "fence": fence,
                "writer": {"ok": writes, "detail": "" if writes else "read-only"},
                "reader": {"ok": True},
            }
        if method == "PUT":
            if not writes:
                return 503, {"title": "This region does not take writes now", "applied": "no"}
            wanted = json.loads(content)
            if wanted["epoch"] < fence["epoch"]:
                return 409, {"detail": "that epoch is over", "fence": fence}
            database.fence = wanted
        return 200, database.fence

    # ---- tokens

    def token(self, request: http.server.BaseHTTPRequestHandler) -> None:
        form = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        form["authorization"] = [request.headers.get("Authorization", "")]
        self.database.tokens.append((self.name, form))
        document = {"access_token": self.database.issued, "expires_in": 3600}
        reply(request, 200, json.dumps(document).encode())

    # ---- RDS

    def query(self, request: http.server.BaseHTTPRequestHandler) -> None:
        text = request.rfile.read(int(request.headers["Content-Length"])).decode()
        params = {key: values[0] for key, values in parse_qs(text).items()}
        action = params["Action"]
        database = self.database
        database.calls.append((self.name, action, params))
        if action in database.errors:
            status, code = database.errors[action]
            body = f"<Code>{code}</Code><Message>as scripted</Message>"
            whole = (
                f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type>{body}</Error>'
                "<RequestId>1</RequestId></ErrorResponse>"
            )
            reply(request, status, whole.encode(), "text/xml")
            return
        with database.lock:
            database.settle()
            if action in ("SwitchoverGlobalCluster", "FailoverGlobalCluster"):
                target = next(
                    r for r in REGIONS if cluster_arn(r) == params["TargetDbClusterIdentifier"]
                )
                database.begin(target, action.startswith("Failover"))
            body = self.result(action)
        whole = (
            f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{body}</{action}Result>'
            f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
        )
        reply(request, 200, whole.encode(), "text/xml")

    def result(self, action: str) -> str:
        if action == "DescribeGlobalClusters":
            member = f"<GlobalClusterMember>{self.cluster()}</GlobalClusterMember>"
            return f"<GlobalClusters>{member}</GlobalClusters>"
        if action == "DescribeDBClusters":
            members = (
                "<DBClusterMember><IsClusterWriter>false</IsClusterWriter></DBClusterMember>" * 2
            )
            return (
                "<DBClusters><DBCluster><EngineVersion>8.0.mysql_aurora.3.10.1</EngineVersion>"
                f"<Status>available</Status><DBClusterMembers>{members}</DBClusterMembers>"
                "</DBCluster></DBClusters>"
            )
        if action == "DescribeDBProxyTargets":
            health = "<TargetHealth><State>AVAILABLE</State></TargetHealth>"
            target = f"<member><Type>RDS_INSTANCE</Type>{health}</member>"
            tracked = "<member><Type>TRACKED_CLUSTER</Type></member>"
            return f"<Targets>{tracked}{target}{target}</Targets>"
        if action == "DescribeDBClusterSnapshots":
            return "<DBClusterSnapshots></DBClusterSnapshots>"
        return f"<GlobalCluster>{self.cluster()}</GlobalCluster>"

    def cluster(self) -> str:
        database = self.database
        members = "".join(
            f"<GlobalClusterMember><DBClusterArn>{escape(cluster_arn(r))}</DBClusterArn>"
            f"<IsWriter>{str(r == database.writer).lower()}</IsWriter>"
            "<SynchronizationStatus>connected</SynchronizationStatus></GlobalClusterMember>"
            for r in REGIONS
        )
        state = ""
        if database.target:
            state = (
                "<FailoverState><Status>switching-over</Status>"
                f"<FromDbClusterArn>{cluster_arn(database.writer)}</FromDbClusterArn>"
                f"<ToDbClusterArn>{cluster_arn(database.target)}</ToDbClusterArn>"
                f"<IsDataLossAllowed>{str(database.data_loss).lower()}</IsDataLossAllowed>"
                "</FailoverState>"
            )
        status = "switching-over" if database.target else "available"
        return (
            f"<GlobalClusterIdentifier>{GLOBAL}</GlobalClusterIdentifier><Status>{status}</Status>"
            f"<GlobalClusterMembers>{members}</GlobalClusterMembers>{state}"
        )


class DatabaseRig(Rig):
    """`Rig` with `service1` and `todo`. The database's controls are in a panel of their own, so
    that the rig's rule (one control On per panel) holds for both pairs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ("service1", TODO))
        self.cluster.states.update({control_arn(DATABASE, r): r == EAST for r in REGIONS})
        self.database = Database()
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = [f"{TODO}.{DOMAIN}", *(f"{TODO}.{r}.{DOMAIN}" for r in REGIONS)]
        addresses = {name: region.address for name, region in self.regions.items()}
        authority.issue_cert(*names, *addresses.values()).configure_cert(context)
        bundle = folder / "ca.pem"
        bundle.write_bytes(bundle.read_bytes() + authority.cert_pem.bytes())
        east = DatabaseRegion(EAST, addresses[EAST], 0, context, self.database)
        west = DatabaseRegion(WEST, addresses[WEST], east.gateway.port, context, self.database)
        self.faces = {EAST: east, WEST: west}
        document = json.loads(self.recovery_file.read_text())
        todo = document["services"][TODO]
        port = east.gateway.port
        todo["pinned"] = {r: f"https://{TODO}.{r}.{DOMAIN}:{port}" for r in REGIONS}
        todo["safety_rules"][f"{TODO}-database-at-most-one"] = rule_arn(DATABASE, 11)
        todo["database"] = {
            "global_cluster": GLOBAL,
            "clusters": {r: cluster_arn(r) for r in REGIONS},
            "proxies": {r: f"todo-{r}" for r in REGIONS},
            "routing_controls": {r: control_arn(DATABASE, r) for r in REGIONS},
        }
        document["endpoints"] = {
            r: {"rds": f"http://{face.address}:{face.rds.port}"} for r, face in self.faces.items()
        }
        document["tokens"] = {
            r: {
                "token_url": f"https://{face.address}:{face.pool.port}/oauth2/token",
                "client_id": f"client-{r}",
            }
            for r, face in self.faces.items()
        }
        self.recovery_file.write_text(json.dumps(document))

    def kill(self, region: str) -> None:
        """Nothing of the region listens any more."""
        self.faces[region].close()
        self.regions[region].close()

    def __exit__(self, *exc: object) -> None:
        self.database.released.set()
        for face in self.faces.values():
            face.close()
        super().__exit__(*exc)

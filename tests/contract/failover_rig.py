"""A recovery cluster, a name server and two regions, scripted, over real sockets on loopback.

Deliberately small and separate from the product's own stand-ins: it says only what the tests of
`failover` make it say. Threads and the standard library, as a contrast to the asyncio of the
product.
"""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from dnslib import QTYPE, RR, A, DNSRecord
from loopback_networks import free_network

ARC_REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
REGIONS = ("us-east-1", "us-west-2")
EAST, WEST = REGIONS
DOMAIN = "example.test"
PANEL = "arn:aws:route53-recovery-control::111122223333:controlpanel"


def panel_id(service: str) -> str:
    return service.encode().hex().ljust(32, "0")


def control_arn(service: str, region: str) -> str:
    number = f"{REGIONS.index(region):x}" * 16
    return f"{PANEL}/{panel_id(service)}/routingcontrol/{number}"


def rule_arn(service: str, number: int) -> str:
    return f"{PANEL}/{panel_id(service)}/safetyrule/{f'{number:x}' * 16}"


def recovery_document(services: tuple[str, ...], endpoints: list[str], port: int) -> dict[str, Any]:
    return {
        "version": 1,
        "domain": DOMAIN,
        "regions": list(REGIONS),
        "cluster_endpoints": [
            {"region": region, "url": url}
            for region, url in zip(ARC_REGIONS, endpoints, strict=False)
        ],
        "services": {
            name: {
                "host": f"{name}.{DOMAIN}",
                "control_panel": f"{PANEL}/{panel_id(name)}",
                "routing_controls": {r: control_arn(name, r) for r in REGIONS},
                "safety_rules": {
                    f"{name}-at-least-one": rule_arn(name, 10),
                    f"{name}-at-most-one": rule_arn(name, 11),
                },
                "pinned": {r: f"https://{name}.{r}.{DOMAIN}:{port}" for r in REGIONS},
            }
            for name in services
        },
    }


@dataclass
class Call:
    """One request that an endpoint has read."""

    endpoint: str
    operation: str
    host: str
    at: float
    body: dict[str, Any]
    authorization: str


@dataclass
class Cluster:
    """The state behind the endpoints, and what they have been asked."""

    states: dict[str, bool]
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    refuse_with: str | None = None
    """ARN of a rule with which every update is refused."""
    changed_at: float = 0.0
    before: dict[str, bool] = field(default_factory=dict)
    lose_answers: int = 0
    """So many updates are done and never answered."""
    lag: float = 0.0
    """Seconds until an endpoint other than the one written sees a change."""

    def seen_by(self, fresh: bool) -> dict[str, bool]:
        with self.lock:
            if not fresh and time.monotonic() < self.changed_at + self.lag:
                return {**self.states, **self.before}
            return dict(self.states)

    def update(self, wanted: dict[str, bool]) -> str | None:
        """None, or the ARN of the rule that refuses."""
        if self.refuse_with:
            return self.refuse_with
        with self.lock:
            after = {**self.states, **wanted}
            for panel in {arn.split("/routingcontrol/")[0] for arn in wanted}:
                on = sum(v for arn, v in after.items() if arn.startswith(panel + "/"))
                if on != 1:
                    return f"{panel}/safetyrule/{('a' if on == 0 else 'b') * 16}"
            self.before = {arn: self.states[arn] for arn in wanted}
            self.states = after
            self.changed_at = time.monotonic()
        return None

    def made(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]


class ArcEndpoint:
    """One endpoint. `mode`: ok, refuse, hang, 503, 500, 429, all400 (model errors as HTTP 400),
    hang-updates, garbage (HTML with 200), garbage-updates."""

    def __init__(self, cluster: Cluster, region: str, address: str) -> None:
        self.region = region
        self.cluster = cluster
        self.mode = "ok"
        self.wrote = False
        self.released = threading.Event()
        rig = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                rig.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *args: object) -> None:
                pass  # the client went away, as it may

        self.server = Server((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Closes the listening socket: connections are refused from now on."""
        self.server.shutdown()
        self.server.server_close()
        self.mode = "refuse"

    def close(self) -> None:
        self.released.set()
        if self.mode != "refuse":
            self.server.shutdown()
            self.server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.cluster.calls.append(
            Call(
                self.region,
                operation,
                request.headers["Host"],
                time.monotonic(),
                body,
                request.headers.get("Authorization", ""),
            )
        )
        updating = operation.startswith("Update")
        if self.mode == "hang" or (self.mode == "hang-updates" and updating):
            self.released.wait(30)
            return
        if self.mode in ("503", "500", "429"):
            code = {
                "503": "EndpointTemporarilyUnavailableException",
                "500": "InternalServerException",
                "429": "ThrottlingException",
            }[self.mode]
            self.reply(request, int(self.mode), {"__type": code, "message": "as scripted"})
            return
        if self.mode == "garbage" or (self.mode == "garbage-updates" and updating):
            self.reply(request, 200, None)
            return
        status, document = self.update(body) if updating else (200, self.list())
        if updating and self.cluster.lose_answers > 0:
            self.cluster.lose_answers -= 1
            self.released.wait(30)
            return
        self.reply(request, 400 if status != 200 and self.mode == "all400" else status, document)

    def list(self) -> dict[str, Any]:
        states = self.cluster.seen_by(self.wrote)
        return {
            "RoutingControls": [
                {"RoutingControlArn": arn, "RoutingControlState": "On" if on else "Off"}
                for arn, on in states.items()
            ]
        }

    def update(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        entries = body["UpdateRoutingControlStateEntries"]
        wanted = {e["RoutingControlArn"]: e["RoutingControlState"] == "On" for e in entries}
        rule = self.cluster.update(wanted)
        if rule is None:
            self.wrote = True
            return 200, {}
        return 409, {
            "__type": "com.amazonaws.toggle#ConflictException",
            "message": f"Cannot modify control state due to failed rule evaluation {rule}",
            "resourceId": rule,
            "resourceType": "SafetyRule",
        }

    def reply(
        self, request: http.server.BaseHTTPRequestHandler, status: int, document: Any
    ) -> None:
        body = b"<html>" if document is None else json.dumps(document).encode()
        request.send_response(status)
        kind = "text/html" if document is None else "application/x-amz-json-1.0"
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if status == 429:
            request.send_header("Retry-After", "1")
        request.end_headers()
        request.wfile.write(body)


class Region:
    """The HTTPS face of one region: every host name answers with the region's name."""

    def __init__(self, name: str, address: str, port: int, context: ssl.SSLContext) -> None:
        self.name = name
        self.address = address
        self.status = 200
        self.hang = False
        self.released = threading.Event()
        self.hosts: list[str] = []
        rig = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self) -> None:
                # The handshake belongs into the request's own thread.
                self.request.settimeout(5)
                self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_GET(self) -> None:
                rig.answer(self)

            def finish(self) -> None:
                super().finish()
                self.request.close()

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *args: object) -> None:
                pass

        self.server = Server((address, port), Handler)
        self.port = self.server.server_port
        self.up = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if self.hang:
            self.released.wait(30)
            return
        self.hosts.append(request.headers["Host"])
        body = json.dumps({"region": self.name}).encode()
        request.send_response(self.status)
        request.send_header("X-Region", self.name)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.released.set()
        if self.up:
            self.up = False
            self.server.shutdown()
            self.server.server_close()


class NameServer:
    """Answers A questions: pinned names always, failover names after the cluster's states."""

    def __init__(self, cluster: Cluster, address: str, regions: dict[str, str]) -> None:
        self.delay = 0.0
        rig = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sock = self.request
                question = DNSRecord.parse(data)
                name = str(question.q.qname).rstrip(".")
                reply = question.reply()
                parts = name.split(".")
                region = parts[1] if parts[1] in regions else rig.active(cluster, parts[0])
                reply.add_answer(RR(name, QTYPE.A, rdata=A(regions[region]), ttl=1))
                sock.sendto(reply.pack(), self.client_address)

        class Server(socketserver.ThreadingUDPServer):
            daemon_threads = True
            block_on_close = False

        self.server = Server((address, 0), Handler)
        self.address = f"{address}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def active(self, cluster: Cluster, service: str) -> str:
        fresh = time.monotonic() >= cluster.changed_at + self.delay
        states = cluster.states if fresh else {**cluster.states, **cluster.before}
        return next((r for r in REGIONS if states.get(control_arn(service, r))), EAST)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Rig:
    """All of it, and a recovery file that points at it. Use as a context manager."""

    def __init__(self, folder: Path, services: tuple[str, ...] = ("service1", "service2")) -> None:
        prefix = free_network()
        self.cluster = Cluster({control_arn(s, r): r == EAST for s in services for r in REGIONS})
        self.arc = {
            region: ArcEndpoint(self.cluster, region, f"{prefix}.100.{number}")
            for number, region in enumerate(ARC_REGIONS, 1)
        }
        authority = trustme.CA()
        names = [f"{s}.{DOMAIN}" for s in services]
        names += [f"{s}.{r}.{DOMAIN}" for s in services for r in REGIONS]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        east = Region(EAST, f"{prefix}.1.10", 0, context)
        west = Region(WEST, f"{prefix}.2.10", east.port, context)
        self.regions = {EAST: east, WEST: west}
        self.dns = NameServer(
            self.cluster, f"{prefix}.0.1", {name: r.address for name, r in self.regions.items()}
        )
        document = recovery_document(
            services, [endpoint.url for endpoint in self.arc.values()], east.port
        )
        document["dns"] = {"name_servers": [self.dns.address]}
        document["tls"] = {"ca_file": "ca.pem"}
        self.recovery_file = folder / "recovery.json"
        self.recovery_file.write_text(json.dumps(document))

    def active(self, service: str) -> list[str]:
        return [r for r in REGIONS if self.cluster.states[control_arn(service, r)]]

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *exc: object) -> None:
        for part in (*self.arc.values(), *self.regions.values(), self.dns):
            part.close()


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])

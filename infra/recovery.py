"""`recovery.json`: all that an operator needs to move a service when no control plane answers.

`recovery_document` is pure; whoever deploys fetches the cluster's endpoints once (they are a list,
which a stack output cannot carry) and writes the document where it survives the loss of AWS access:
outside AWS.

What an entry has depends on its switch: panel, controls and rules with "arc"; with "alarm" and
"health" a block `takeover`, which says for each region which alarm and metric take it out and in
which region they lie (the other one). Without an entry that has "arc" there are no cluster
endpoints.

Downside: it is a snapshot. Deploying a service again in a new stack makes new ARNs and therefore
needs a new file, and so does another switch.

Errors: `RecoveryError`, alone in its tree, with everything that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.data_stacks import GLOBAL_DATABASE, database_step, has_database, users_step
from infra.naming import METRIC, NAMESPACE, takeover_dimensions
from infra.stacks import records_of, routing_step, takeover_step
from infra.topology import Service, Topology

VERSION = 1

_RULES = {"AtLeastOneArn": "{service}-at-least-one", "AtMostOneArn": "{service}-at-most-one"}
_DATABASE_RULES = {
    "DatabaseAtLeastOneArn": "{service}-database-at-least-one",
    "DatabaseAtMostOneArn": "{service}-database-at-most-one",
    "PrimaryInterlockArn": "{service}-interlock-{primary}",
    "SecondaryInterlockArn": "{service}-interlock-{secondary}",
}
"""Output of routing.yaml -> name of the safety rule, as that template names it."""


class RecoveryError(Exception):
    """The document cannot be made. `reasons` lists everything that is missing or wrong."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__("no recovery document:\n" + "\n".join(f"  - {r}" for r in reasons))


def recovery_document(
    topology: Topology,
    outputs: Mapping[str, Mapping[str, str]],
    cluster_endpoints: Sequence[Mapping[str, str]],
    pinned_port: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The recovery document of a deployed topology, ready for JSON.

    `outputs`: step name -> output name -> value, of all steps. `cluster_endpoints`: `region` and
    `url` of each of the five; not used without an entry that has "arc". `pinned_port`: port of the
    pinned addresses when it is not 443. `extra`: further keys of the top level (`endpoints`, `dns`,
    `tls`, and `tokens` instead of those made here). Raises RecoveryError.
    """
    endpoints = cluster_endpoints if topology.switched_by("arc") else ()
    reasons = _endpoint_faults(topology, endpoints)
    services = {}
    data = _Data(topology, outputs)
    for service in topology.entries:
        entry = _Entry(topology, service, outputs, pinned_port)
        services[service.name] = entry.document()
        reasons += entry.missing
        if service.database:
            services[service.name]["database"] = {**data.database(), **entry.database()}
    document = {
        "version": VERSION,
        "domain": topology.domain,
        "regions": list(topology.regions),
        "cluster_endpoints": [dict(endpoint) for endpoint in endpoints],
        "services": services,
    }
    reasons += [
        f"{key} is made here; extra cannot set it" for key in document.keys() & (extra or {})
    ]
    tokens = data.tokens() if has_database(topology) else {}
    reasons += data.missing
    if reasons:
        raise RecoveryError(tuple(reasons))
    return {**document, **tokens, **(extra or {})}


def _endpoint_faults(topology: Topology, endpoints: Sequence[Mapping[str, str]]) -> list[str]:
    if topology.switched_by("arc") and not endpoints:
        return ["there are no cluster endpoints"]
    return [
        f"cluster endpoint {dict(endpoint)!r} needs a region and a url"
        for endpoint in endpoints
        if not endpoint.get("region") or not endpoint.get("url")
    ]


class _Data:
    """What services with a database share; `missing` has each output once."""

    def __init__(self, topology: Topology, outputs: Mapping[str, Mapping[str, str]]) -> None:
        self._regions, self._outputs = topology.regions, outputs
        self._missing: dict[str, None] = {}

    @property
    def missing(self) -> list[str]:
        return list(self._missing)

    def database(self) -> dict[str, Any]:
        """The global cluster, and each region's member and proxy."""
        steps = {region: database_step(region) for region in self._regions}
        return {
            "global_cluster": self._output(GLOBAL_DATABASE, "GlobalClusterName"),
            "clusters": {r: self._output(step, "ClusterArn") for r, step in steps.items()},
            "proxies": {r: self._output(step, "ProxyName") for r, step in steps.items()},
        }

    def tokens(self) -> dict[str, Any]:
        """Where the operator gets a token in each region, and as whom; never the secret."""
        return {
            "tokens": {
                region: {
                    "token_url": self._output(users_step(region), "TokenUrl"),
                    "client_id": self._output(users_step(region), "OperatorClientId"),
                }
                for region in self._regions
            }
        }

    def _output(self, stack: str, name: str) -> str:
        if name not in self._outputs.get(stack, {}):
            self._missing[f"stack {stack} has no output {name}"] = None
        return self._outputs.get(stack, {}).get(name, "")


class _Entry:
    """One service's part; `missing` grows while it is made."""

    def __init__(
        self,
        topology: Topology,
        service: Service,
        outputs: Mapping[str, Mapping[str, str]],
        port: int | None,
    ) -> None:
        self._topology, self._service, self._outputs = topology, service, outputs
        self._stack, self._port = routing_step(service.name), port
        self.missing: list[str] = []

    def document(self) -> dict[str, Any]:
        topology, name = self._topology, self._service.name
        port = "" if self._port in (None, 443) else f":{self._port}"
        by_switch = {"arc": self._arc, "alarm": self._alarm, "health": self._health}
        return {
            "host": topology.host(name),
            **by_switch[self._service.switch](),
            "pinned": {
                region: f"https://{topology.pinned_host(name, region)}{port}"
                for region in topology.regions
            },
        }

    def database(self) -> dict[str, Any]:
        """Its database controls, if its switch has such."""
        if self._service.switch != "arc":
            return {}
        return {"routing_controls": self._controls("Database{role}ControlArn")}

    def _arc(self) -> dict[str, Any]:
        rules = {**_RULES, **(_DATABASE_RULES if self._service.database else {})}
        return {
            "control_panel": self._output(self._stack, "ControlPanelArn"),
            "routing_controls": self._controls("{role}ControlArn"),
            "safety_rules": self._rules(rules),
        }

    def _alarm(self) -> dict[str, Any]:
        first, second = self._topology.regions
        taken = {first: self._takeover(first, second), second: self._takeover(second, first)}
        return {"switch": self._service.switch, "takeover": taken}

    def _health(self) -> dict[str, Any]:
        checked = {"path": self._service.checked_path, "records": records_of(self._service)}
        return {**self._alarm(), "checked": checked}

    def _takeover(self, region: str, by: str) -> dict[str, Any]:
        """What takes the service out of `region`; it lies in the region `by`."""
        topology, name = self._topology, self._service.name
        return {
            "region": by,
            "alarm": self._output(takeover_step(name, by), "AlarmName"),
            "namespace": NAMESPACE,
            "metric": METRIC,
            "dimensions": takeover_dimensions(topology, name, region),
        }

    def _output(self, stack: str, name: str) -> str:
        found = self._outputs.get(stack, {})
        if name not in found:
            self.missing.append(f"stack {stack} has no output {name}")
        return found.get(name, "")

    def _controls(self, pattern: str) -> dict[str, str]:
        roles = zip(self._topology.regions, ("Primary", "Secondary"), strict=True)
        return {
            region: self._output(self._stack, pattern.format(role=role)) for region, role in roles
        }

    def _rules(self, rules: Mapping[str, str]) -> dict[str, str]:
        primary, secondary = self._topology.regions
        named = {"service": self._service.name, "primary": primary, "secondary": secondary}
        return {
            name.format(**named): self._output(self._stack, output)
            for output, name in rules.items()
        }

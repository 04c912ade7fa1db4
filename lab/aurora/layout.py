"""What a deployment says about the global database: a pure reading of its resources.

Downside: exactly one global cluster and one cluster per region are understood, because that is what
the templates deploy; anything else is refused with every reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.aurora.errors import AuroraError
from lab.model import Deployment, Resource
from lab.settings import Settings

SERVER_PORT = 3306
LINK_PORT = 3307
WRITER_PORT = 3316
READER_PORT = 3317
API_PORT = 8445

DEFAULT_BORROW_TIMEOUT = 120.0
"""Seconds (RDS API, ConnectionPoolConfiguration)."""
PARAMETERS = ("innodb_lock_wait_timeout", "max_connections", "wait_timeout", "interactive_timeout")
"""Parameters of the template's parameter groups that reach the servers."""
DEFAULT_PASSWORD_LENGTH = 32
"""CloudFormation, GenerateSecretString: PasswordLength."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One region's cluster and the proxy in front of it."""

    region: str
    address: str
    """The region's address in the lab."""
    identifier: str
    arn: str
    endpoint: str
    reader_endpoint: str
    instances: tuple[str, ...]
    """Identifiers, in template order; the first is the writer when the region is the primary."""
    engine_version: str
    properties: Mapping[str, Any]
    proxy_name: str
    proxy_arn: str
    proxy_endpoint: str
    """Host name of the read/write endpoint."""
    proxy_reader_endpoint: str
    """Host name of the read-only endpoint; empty if the template has none."""
    borrow_timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of the template, before it has a password."""

    arn: str
    name: str
    regions: tuple[str, ...]
    template: Mapping[str, Any]
    """The JSON object that the password is added to; has `username`."""
    password_key: str
    password_length: int
    fixed: str | None
    """SecretString, if the template gives it."""
    administrator: bool
    """Belongs to the user with DDL."""

    def arn_in(self, region: str) -> str:
        """A replica has the same ARN but for the region."""
        parts = self.arn.split(":")
        return ":".join((*parts[:3], region, *parts[4:]))


@dataclass(frozen=True, slots=True)
class Layout:
    global_cluster: str
    engine: str
    engine_version: str
    deletion_protection: bool
    storage_encrypted: bool
    database: str
    seed: str
    """The region whose cluster was the first writer."""
    clusters: Mapping[str, Cluster]
    secrets: tuple[Secret, ...]
    parameters: Mapping[str, int]
    """Of the instances' parameter groups, those that MariaDB has in the same sense."""

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(self.clusters)

    def other(self, region: str) -> str:
        return next(r for r in self.clusters if r != region)

    @property
    def global_arn(self) -> str:
        account = next(iter(self.clusters.values())).arn.split(":")[4]
        return f"arn:aws:rds::{account}:global-cluster:{self.global_cluster}"


def is_deployed(deployment: Deployment) -> bool:
    """Does this deployment have a global database at all?"""
    return bool(deployment.of_type("AWS::RDS::GlobalCluster"))


def read_layout(deployment: Deployment, settings: Settings) -> Layout:
    """Raises AuroraError with every reason."""
    reasons: list[str] = []
    found = deployment.of_type("AWS::RDS::GlobalCluster")
    if len(found) != 1:
        raise AuroraError(f"the deployment has {len(found)} AWS::RDS::GlobalCluster, not 1")
    top = found[0]
    version = str(top.properties.get("EngineVersion", ""))
    clusters = {
        region: cluster
        for region in settings.regions
        if (cluster := _cluster(deployment, settings, region, version, reasons)) is not None
    }
    if len(settings.regions) != 2:
        reasons.append(f"a global database of {len(settings.regions)} regions; the lab makes two")
    secrets = _secrets(deployment, [c.properties for c in clusters.values()], reasons)
    if sum(s.administrator for s in secrets) != 1:
        reasons.append("the secrets: exactly one must be the cluster's master user's")
    if reasons:
        raise AuroraError("global database: " + "; ".join(reasons))
    seeds = [c for c in clusters.values() if c.properties.get("DatabaseName")]
    seed = seeds[0] if seeds else clusters[settings.regions[0]]
    return Layout(
        global_cluster=top.physical_id,
        engine=str(top.properties.get("Engine", "aurora-mysql")),
        engine_version=version,
        deletion_protection=_is_true(top.properties.get("DeletionProtection")),
        storage_encrypted=_is_true(top.properties.get("StorageEncrypted")),
        database=str(seed.properties.get("DatabaseName") or "todo"),
        seed=seed.region,
        clusters=clusters,
        secrets=secrets,
        parameters=_parameters(deployment),
    )


def certificate_names(deployment: Deployment, settings: Settings, region: str) -> list[str]:
    """What a region's certificate must be good for besides its API: its proxy's host names, and its
    address, which a client uses that has no such names."""
    names = {settings.region_address(region)}
    for proxy in deployment.of_type(
        "AWS::RDS::DBProxy", "AWS::RDS::DBProxyEndpoint", region=region
    ):
        names.add(proxy.attributes["Endpoint"])
    return sorted(names)


def host_table(
    deployment: Deployment, settings: Settings, region: str
) -> dict[tuple[str, int], tuple[str, int]]:
    """Where a function of `region` finds (host name, port) of the real world in the lab."""
    if not is_deployed(deployment):
        return {}
    cluster = read_layout(deployment, settings).clusters[region]
    table = {(cluster.proxy_endpoint, SERVER_PORT): (cluster.address, WRITER_PORT)}
    if cluster.proxy_reader_endpoint:
        table[cluster.proxy_reader_endpoint, SERVER_PORT] = (cluster.address, READER_PORT)
    return table


def _cluster(
    deployment: Deployment, settings: Settings, region: str, version: str, reasons: list[str]
) -> Cluster | None:
    def only(kind: str) -> Resource | None:
        found = deployment.of_type(kind, region=region)
        if len(found) != 1:
            reasons.append(f"{region} has {len(found)} {kind}, not 1")
        return found[0] if len(found) == 1 else None

    cluster, proxy = only("AWS::RDS::DBCluster"), only("AWS::RDS::DBProxy")
    instances = deployment.of_type("AWS::RDS::DBInstance", region=region)
    if not instances:
        reasons.append(f"{region} has no AWS::RDS::DBInstance: a headless cluster cannot be used")
    if cluster is None or proxy is None:
        return None
    readers = deployment.of_type("AWS::RDS::DBProxyEndpoint", region=region)
    arn = cluster.attributes["DBClusterArn"]
    return Cluster(
        region=region,
        address=settings.region_address(region),
        identifier=cluster.physical_id,
        arn=arn,
        endpoint=cluster.attributes.get("Endpoint.Address", ""),
        reader_endpoint=cluster.attributes.get("ReadEndpoint.Address", ""),
        instances=tuple(i.physical_id for i in instances),
        engine_version=str(cluster.properties.get("EngineVersion") or version),
        properties=cluster.properties,
        proxy_name=proxy.physical_id,
        proxy_arn=proxy.attributes["DBProxyArn"],
        proxy_endpoint=proxy.attributes["Endpoint"],
        proxy_reader_endpoint=readers[0].attributes["Endpoint"] if readers else "",
        borrow_timeout=_borrow_timeout(deployment, region),
    )


def _borrow_timeout(deployment: Deployment, region: str) -> float:
    for group in deployment.of_type("AWS::RDS::DBProxyTargetGroup", region=region):
        pool = group.properties.get("ConnectionPoolConfigurationInfo") or {}
        if "ConnectionBorrowTimeout" in pool:
            return float(pool["ConnectionBorrowTimeout"])
    return DEFAULT_BORROW_TIMEOUT


def _parameters(deployment: Deployment) -> dict[str, int]:
    groups = deployment.of_type("AWS::RDS::DBParameterGroup", "AWS::RDS::DBClusterParameterGroup")
    given = {name: value for g in groups for name, value in g.properties["Parameters"].items()}
    return {name: int(given[name]) for name in PARAMETERS if name in given}


def _secrets(
    deployment: Deployment, clusters: Sequence[Mapping[str, Any]], reasons: list[str]
) -> tuple[Secret, ...]:
    resources = deployment.of_type("AWS::SecretsManager::Secret")
    master = json.dumps(
        [[c.get("MasterUsername", ""), c.get("MasterUserPassword", "")] for c in clusters]
    )
    named = [r for r in resources if r.physical_id in master or _name(r) in master]
    if len(named) != 1:  # the template does not say it by reference: go by the name
        named = [r for r in resources if "admin" in f"{r.logical_id} {_name(r)}".lower()]
    return tuple(_secret(r, r in named, reasons) for r in resources)


def _secret(resource: Resource, administrator: bool, reasons: list[str]) -> Secret:
    rule = resource.properties.get("GenerateSecretString") or {}
    fixed = resource.properties.get("SecretString")
    try:
        template = json.loads(fixed or rule.get("SecretStringTemplate") or "{}")
    except ValueError:
        template = {}
    if not isinstance(template, dict) or not template.get("username"):
        reasons.append(f"secret {_name(resource)}: its JSON must have a username")
        template = {}
    replicas = [r["Region"] for r in resource.properties.get("ReplicaRegions") or ()]
    return Secret(
        arn=resource.physical_id,
        name=_name(resource),
        regions=(resource.region, *(r for r in replicas if r != resource.region)),
        template=template,
        password_key=str(rule.get("GenerateStringKey", "password")),
        password_length=int(rule.get("PasswordLength", DEFAULT_PASSWORD_LENGTH)),
        fixed=fixed,
        administrator=administrator,
    )


def _name(resource: Resource) -> str:
    name = resource.properties.get("Name")
    return str(name) if name else resource.physical_id.rpartition(":secret:")[2][:-7]


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def server_id(layout_regions: Sequence[str], region: str) -> int:
    """MariaDB's server_id, which is part of each GTID: 1 for the first region."""
    return list(layout_regions).index(region) + 1


def resource_id(prefix: str, *parts: str) -> str:
    """An AWS-looking resource id that is always the same for the same parts."""
    return prefix + hashlib.sha256("/".join(parts).encode()).hexdigest()[:26].upper()

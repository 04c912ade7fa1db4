"""The stacks behind services with a database, shared by all of them: each once per region.

    keys-<region>, network-<region>, users-<region>      need nothing
    global-database                                      an empty global cluster
    secrets                                              needs the keys of both regions
    database-<primary>, then database-<secondary>        cluster, instances, proxy

A topology without a database has none of these. `environment` and `network` are what an
application takes from them.

Downside: one global database, one schema and one pair of user pools for all such services. A second
database needs its own set of these steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.steps import OutputRef, Stack, Text, Value
from infra.topology import Topology

GLOBAL_DATABASE = "global-database"
SECRETS = "secrets"

DATABASE_NAME = "todo"
"""Schema, and first part of the names of the secrets; the functions' policies name these too."""

TENANTS = {"ApplicationClientId": "application", "OperatorClientId": "operator"}
"""Output of users.yaml with a client's id -> the tenant that its data belongs to."""

_VPC = "10.{}.0.0/16"
_SUBNETS = ("10.{}.0.0/20", "10.{}.16.0/20")
_FIRST_NETWORK = 20
"""Second octet of the first region's addresses. Regions differ, so that they can be peered."""

_ZONE_WORDS = {
    "north": "n", "south": "s", "east": "e", "west": "w", "central": "c", "gov": "g",
    "northeast": "ne", "northwest": "nw", "southeast": "se", "southwest": "sw",
}  # fmt: skip
_OTHER_ZONES = {
    "ap-northeast-1": ("1", "4"),
    "ca-central-1": ("1", "2"),
    "us-west-1": ("1", "3"),
}
"""Regions in which zones 1 and 2 are not both open to a new account."""

_REFUSED_WORDS = re.compile("aws|amazon|cognito")
"""Cognito takes none of these in a domain prefix."""


def keys_step(region: str) -> str:
    return f"keys-{region}"


def network_step(region: str) -> str:
    return f"network-{region}"


def users_step(region: str) -> str:
    return f"users-{region}"


def database_step(region: str) -> str:
    return f"database-{region}"


def has_database(topology: Topology) -> bool:
    """Whether any service keeps its data in the global database."""
    return any(service.database for service in topology.services.values())


def data_steps(topology: Topology) -> Iterator[Stack]:
    """The steps, each after those it needs; none for a topology without a database."""
    if not has_database(topology):
        return
    label = _label(topology)
    for index, region in enumerate(topology.regions):
        yield Stack(keys_step(region), region, "keys.yaml", {"KeyName": f"{label}-data"})
        yield _network(region, _FIRST_NETWORK + index)
        yield _users(label, region)
    # Created where its first member is: the one order that AWS documents. Nothing of a move
    # touches the stack afterwards.
    yield Stack(
        GLOBAL_DATABASE,
        topology.primary,
        "global-database.yaml",
        {"GlobalClusterName": f"db-{label[:60]}".rstrip("-")},
    )
    yield _secrets(topology)
    for region in topology.regions:
        yield _database(topology, label, region)


def _label(topology: Topology) -> str:
    """The domain as part of a name: RDS allows no two hyphens in a row."""
    return re.sub("[.-]+", "-", topology.domain)


def _network(region: str, octet: int) -> Stack:
    return Stack(
        network_step(region),
        region,
        "network.yaml",
        {
            "VpcCidr": _VPC.format(octet),
            "SubnetCidrs": tuple(cidr.format(octet) for cidr in _SUBNETS),
            "ZoneIds": zone_ids(region),
        },
    )


def zone_ids(region: str) -> tuple[str, str]:
    """Ids of the two availability zones that are used. An id means the same zone in every account,
    a name such as us-east-1a does not; use1-az3 has no RDS Proxy (Aurora User Guide)."""
    area, *words, number = region.split("-")
    prefix = area + "".join(_ZONE_WORDS.get(word, word[:1]) for word in words) + number
    first, second = _OTHER_ZONES.get(region, ("1", "2"))
    return f"{prefix}-az{first}", f"{prefix}-az{second}"


def _users(label: str, region: str) -> Stack:
    words = _REFUSED_WORDS.sub("x", label)
    prefix = f"{words[: 62 - len(region)].rstrip('-')}-{region}"
    return Stack(
        users_step(region),
        region,
        "users.yaml",
        {"PoolName": label, "DomainPrefix": prefix},
    )


def _secrets(topology: Topology) -> Stack:
    primary, secondary = topology.regions
    return Stack(
        SECRETS,
        primary,
        "secrets.yaml",
        {
            "NamePrefix": DATABASE_NAME,
            "KeyArn": OutputRef(keys_step(primary), "KeyArn"),
            "ReplicaRegion": secondary,
            "ReplicaKeyArn": OutputRef(keys_step(secondary), "KeyArn"),
        },
    )


def _database(topology: Topology, label: str, region: str) -> Stack:
    network = network_step(region)
    parameters: dict[str, Value] = {
        "ClusterName": f"db-{label[: 50 - len(region)].rstrip('-')}-{region}",
        "GlobalClusterName": OutputRef(GLOBAL_DATABASE, "GlobalClusterName"),
        "SeedMember": "true" if region == topology.primary else "false",
        "DatabaseName": DATABASE_NAME,
        "KeyArn": OutputRef(keys_step(region), "KeyArn"),
        "ApplicationSecretArn": _secret_arn(topology, "Application", region),
        "AdministratorSecretArn": _secret_arn(topology, "Administrator", region),
        "SubnetIds": OutputRef(network, "SubnetIds"),
        "ClusterSecurityGroupId": OutputRef(network, "ClusterSecurityGroupId"),
        "ProxySecurityGroupId": OutputRef(network, "ProxySecurityGroupId"),
    }
    # The first member of a global cluster is its writer, so the primary's comes first.
    after = () if region == topology.primary else (database_step(topology.primary),)
    return Stack(database_step(region), region, "database.yaml", parameters, after)


def _secret_arn(topology: Topology, owner: str, region: str) -> OutputRef:
    kind = "SecretArn" if region == topology.primary else "SecretReplicaArn"
    return OutputRef(SECRETS, f"{owner}{kind}")


def environment(topology: Topology, region: str) -> dict[str, Value]:
    """Environment variables of a service with a database, in one region."""
    users = [users_step(each) for each in topology.regions]
    clients = [
        (OutputRef(users, output), tenant) for users in users for output, tenant in TENANTS.items()
    ]
    tenants: list[str | OutputRef] = []
    for client, tenant in clients:
        tenants += ['{"' if not tenants else ',"', client, f'":"{tenant}"']
    database = database_step(region)
    return {
        "TENANTS": Text((*tenants, "}")),
        "USER_POOL_ARNS": tuple(OutputRef(name, "UserPoolArn") for name in users),
        "DB_WRITER_HOST": OutputRef(database, "WriterHost"),
        "DB_READER_HOST": OutputRef(database, "ReaderHost"),
        "DB_NAME": DATABASE_NAME,
        "SECRET_ARN": _secret_arn(topology, "Application", region),
        "ADMIN_SECRET_ARN": _secret_arn(topology, "Administrator", region),
        "PRIMARY_REGION": topology.primary,
    }


def network(region: str) -> dict[str, Value]:
    """Where the functions of such a service are."""
    step = network_step(region)
    return {
        "subnet_ids": OutputRef(step, "SubnetIds"),
        "security_group_ids": OutputRef(step, "FunctionSecurityGroupId"),
    }

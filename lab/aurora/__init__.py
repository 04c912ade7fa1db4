"""Aurora global database, RDS Proxy, the RDS API and Secrets Manager: `prepare`, `GlobalDatabase`.

layout           what a deployment says                       (pure)
accounts         passwords and secrets, on disk
server           MariaDB: found, given a data directory, its command line
state            the shared control-plane state, on disk
sql              administration of one server                 (blocking)
operation        switchover and failover, step by step
resync           a lost volume kept and replaced
agent            keeps a region's server in its role
splice           two connections joined, with a delay
proxy, link      RDS Proxy's endpoints, the replication link
rds, query       the RDS API, and its protocol
secretsmanager   GetSecretValue
api              the HTTP listener of both
service          a region's part as a whole
lost             the rows that only a lost volume has         (command)
errors           the exceptions of this package

Parts are imported where they are used: `lab up` needs MariaDB's command line, not the proxy.
"""

from lab.aurora.errors import ApiError, AuroraError
from lab.aurora.layout import (
    API_PORT,
    LINK_PORT,
    READER_PORT,
    SERVER_PORT,
    WRITER_PORT,
    certificate_names,
    host_table,
    is_deployed,
)
from lab.aurora.server import mariadbd_argv, prepare, process_name
from lab.aurora.service import GlobalDatabase

__all__ = [
    "API_PORT",
    "LINK_PORT",
    "READER_PORT",
    "SERVER_PORT",
    "WRITER_PORT",
    "ApiError",
    "AuroraError",
    "GlobalDatabase",
    "certificate_names",
    "host_table",
    "is_deployed",
    "mariadbd_argv",
    "prepare",
    "process_name",
]

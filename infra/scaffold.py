"""`make service NAME=orders`: a folder, a test and a line in `topology.toml`, and it is a service.

    services/<name>/     app.py, requirements.txt, README.md, .chalice/, links to the shared code
    tests/unit/test_services_<name>.py
    topology.toml        [services.<name>] after the last service; comments stay

Everything else follows from the line: panel, controls, rules, health checks, records, domains,
gateway route, load-test user. What is made passes lint and its own test as it is.

The folder is made beside its place and renamed, and the declaration is changed last, so what an
interruption leaves is refused with its reason and never deployed.

Downside: the texts below are a copy of what service1 consists of; a test compares what must stay
equal (requirements, policy, configuration).

Errors: `ScaffoldError` with every reason; `TopologyError` when the declaration cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.topology import Topology, TopologyError, _name_faults, load_topology

SHARED = "shared"
"""The folder below `services/` that is no service."""

_TABLE = re.compile(r"^\s*\[")
_SERVICE = re.compile(r"^\s*\[services\b")


class ScaffoldError(Exception):
    """The service cannot be made. `reasons` lists everything that is in its way."""

    def __init__(self, name: str, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{name!r} cannot be made:\n" + "\n".join(f"  - {r}" for r in reasons))


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of a service are, below the root of the project."""

    root: Path
    name: str

    @property
    def topology(self) -> Path:
        return self.root / "topology.toml"

    @property
    def folder(self) -> Path:
        return self.root / "services" / self.name

    @property
    def test(self) -> Path:
        return self.root / "tests/unit" / f"test_services_{self.name.replace('-', '_')}.py"


def make_service(root: Path, name: str) -> tuple[Path, ...]:
    """Makes the service `name` in the project at `root`; what was made or changed, nothing when it
    is a service already.

    Raises ScaffoldError with every reason, TopologyError when `topology.toml` cannot be used.
    """
    places = Places(root, name)
    topology = load_topology(places.topology)
    if name in topology.services:
        return ()
    reasons = tuple(_faults(places))
    if reasons:
        raise ScaffoldError(name, reasons)
    declaration = places.topology.read_text(encoding="utf-8")
    _make_folder(places, topology)
    places.test.write_text(_filled(TEST, name))
    _replace(places.topology, with_service(declaration, name))
    load_topology(places.topology)
    return (places.folder, places.test, places.topology)


def _faults(places: Places) -> Iterator[str]:
    faults = list(_name_faults(places.name))
    if places.name == SHARED:
        faults.append(f"services/{SHARED} is what all services share")
    yield from faults
    if faults:
        return  # a path is not made of such a name
    for path in (places.folder, places.test):
        if os.path.lexists(path):
            yield f"{path.relative_to(places.root)} exists; remove it, or choose another name"


def with_service(declaration: str, name: str) -> str:
    """The text of `topology.toml` with `[services.<name>]` after its last service. Pure."""
    lines = declaration.splitlines()
    last = max((i for i, line in enumerate(lines) if _SERVICE.match(line)), default=len(lines) - 1)
    end = next((i for i in range(last + 1, len(lines)) if _TABLE.match(lines[i])), len(lines))
    while end > last + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # blank lines and comments belong to what follows
    return "\n".join([*lines[:end], f"[services.{name}]", *lines[end:]]) + "\n"


def _make_folder(places: Places, topology: Topology) -> None:
    draft = places.folder.with_name(f".{places.name}.{os.getpid()}")
    try:
        (draft / ".chalice").mkdir(parents=True)
        (draft / "vendor").mkdir()
        for file, text in texts(places.name, topology).items():
            (draft / file).write_text(text)
        (draft / "vendor/regional").symlink_to("../../shared/regional")
        (draft / "wheels").symlink_to("../shared/wheels")
        draft.rename(places.folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def texts(name: str, topology: Topology) -> Mapping[str, str]:
    """File below the service's folder -> its text. Pure."""
    return {
        "app.py": _filled(APP, name),
        "requirements.txt": REQUIREMENTS,
        "README.md": _filled(README, name).replace("example.test", topology.domain),
        ".chalice/config.json": _json(config(name, topology)),
        ".chalice/policy.json": _json(policy(name)),
    }


def _filled(text: str, name: str) -> str:
    return text.replace("@name@", name)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, indent=2) + "\n"


def config(name: str, topology: Topology) -> dict[str, object]:
    """Chalice's config.json: what belongs to the code, and each region's stage."""
    stage = {
        "api_gateway_stage": "api",
        "api_gateway_endpoint_type": "REGIONAL",
        "environment_variables": {"SERVICE_NAME": name},
    }
    return {
        "version": "2.0",
        "app_name": name,
        "xray": True,
        "autogen_policy": False,
        "iam_policy_file": "policy.json",
        "lambda_timeout": 4,
        "lambda_memory_size": 512,
        "environment_variables": {"LOG_LEVEL": "INFO"},
        "stages": dict.fromkeys(topology.regions, stage),
    }


def policy(name: str) -> dict[str, object]:
    """What the function may do: write its own logs, and traces (which know no resources)."""
    logs = f"arn:aws:logs:*:*:log-group:/aws/lambda/{name}-*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OwnLogGroups",
                "Effect": "Allow",
                "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": [logs, f"{logs}:*"],
            },
            {
                "Sid": "Traces",
                "Effect": "Allow",
                "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
                "Resource": "*",
            },
        ],
    }


APP = '''"""@name@: says where it runs."""

from __future__ import annotations

from regional import App

app = App("@name@")
app.deep()  # give it a check of each thing that this region has for itself


@app.route("/")
def root() -> dict[str, str]:
    return {"service": app.service, "region": app.region}
'''

REQUIREMENTS = """\
# What goes into the deployment package. Never install it into an environment of your own:
# its botocore is an empty stand-in (see ../shared/build_wheels.py; the Lambda runtime has the real
# one). For development use the dependency groups of the project.
--find-links wheels
aws-xray-sdk==2.15.0
botocore==1.44.5+lambda.runtime
wrapt==1.17.3
"""

README = """\
# @name@

| request | answer |
|---|---|
| `GET /` | `{"service":"@name@","region":"us-east-1"}` |
| `GET /deep` | does all that it needs work? 503 when not; what an automatic switch asks |

With the lab running (`make lab`), through the external API:

```sh
. .lab/env
address=$(dig +short @"${NAMESERVER%:*}" -p "${NAMESERVER#*:}" api.example.test)
curl -i --cacert "$CA_FILE" --connect-to "api.example.test:8443:$address:8443" "$API_URL/@name@"
# HTTP/1.1 200 OK
# X-Region: us-east-1
# {"service":"@name@","region":"us-east-1"}
```

How to write a service: `../shared/README.md`.
"""

TEST = '''"""@name@: its routes."""

import pytest
from services_support import call, loaded

NAME = "@name@"


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2"])
def test_the_root_says_which_service_and_region(region: str) -> None:
    with loaded(NAME, AWS_REGION=region) as app:
        assert call(app) == (200, {"X-Region": region}, {"service": NAME, "region": region})


def test_the_deep_check_is_well() -> None:
    with loaded(NAME) as app:
        assert call(app, "/deep")[0] == 200
'''


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 made, or there already; 2 refused."""
    parser = argparse.ArgumentParser(prog="make service NAME=…", description="Makes a service.")
    parser.add_argument("name", help="a-z, 0-9 and -, begins with a letter")
    options = parser.parse_args(argv)
    root = Path.cwd()
    try:
        made = make_service(root, options.name)
    except (ScaffoldError, TopologyError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not made:
        sys.stdout.write(f"{options.name} is a service already; nothing was changed\n")
        return 0
    for path in made:
        verb = "added a line to" if path.name == "topology.toml" else "made"
        sys.stdout.write(f"{verb} {path.relative_to(root)}\n")
    test = made[1].relative_to(root)
    sys.stdout.write(f"next: .venv/bin/pytest {test}, then make lab, and curl it (its README)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One service in one region on AWS: `chalice deploy --stage <region>` in a working copy.

Chalice knows what it has deployed only from `.chalice/deployed/<stage>.json` on the machine that
deployed. Without that file it would import a second REST API beside the one that serves. So the
file is not kept but made again from AWS before every run:

    function    <service>-<region>[-<name>], with Chalice's own tag naming this application
    role        the one that the function has, when it is <service>-<region>-<function>
    REST API    the one of the service's name whose methods call that function

Whoever has the repository and the account can therefore go on, and so can a run after one that was
killed between "API imported" and "result written". A digest of the sources and the configuration is
kept as a tag of the function: an application with the same digest is not deployed again.

What Chalice cannot set on the REST API (`infra.api_settings`) is set after it, and looked at again
in every run. The digest is written last and taken away while the settings of an unchanged
application are mended, so that a run which was killed in between is made up for by a deployment.

The working copy is `.infra/work/<service>-<region>`; the clone's own config.json is not touched.
The region comes from the stage, never from the shell.

Downside: finding the API asks API Gateway for the methods of every REST API with the service's
name (one, usually).

Errors: ApplicationError and what `infra.errors.from_aws` makes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import api_settings
from infra.api_settings import Patches, Settings
from infra.clients import Clients
from infra.configure import configured, stage_part
from infra.errors import ApplicationError, InterruptedDeployError, explained
from infra.naming import TAG_SOURCE
from infra.stacks import CHALICE_API_STAGE
from infra.steps import Application, Outputs, access_log_of
from infra.topology import Topology

CHALICE = (sys.executable, "-c", "import sys; from chalice.cli import main; sys.exit(main())")
"""Chalice has no `-m`; this is what its console script does."""
CHALICE_TAG = "aws-chalice"
"""Chalice tags its functions `version=…:stage=…:app=…`."""
TIMEOUT_SECONDS = 900.0
"""For one run of Chalice, packaging included."""

_LEFT_BEHIND = {".chalice": {"deployments", "deployed", "venv"}}
"""Folder -> what Chalice leaves there; not a source."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What there is of an application."""

    functions: Mapping[str, str] = field(default_factory=dict)
    """Chalice's resource name (api_handler, …) -> ARN."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Chalice's resource name (api_handler_role, …) -> ARN. Chalice deletes what it finds recorded
    under a name that it does not plan, so the names must be Chalice's own."""
    rest_api: str = ""
    digest: str = ""

    def document(self, region: str) -> dict[str, Any]:
        """The content of `.chalice/deployed/<stage>.json`."""
        resources: list[dict[str, str]] = [
            {
                "name": name,
                "resource_type": "iam_role",
                "role_arn": arn,
                "role_name": arn.rsplit("/", 1)[-1],
            }
            for name, arn in self.roles.items()
        ]
        resources += [
            {"name": name, "resource_type": "lambda_function", "lambda_arn": arn}
            for name, arn in self.functions.items()
        ]
        if self.rest_api:
            host = f"{self.rest_api}.execute-api.{region}.amazonaws.com"
            resources.append(
                {
                    "name": "rest_api",
                    "resource_type": "rest_api",
                    "rest_api_id": self.rest_api,
                    "rest_api_url": f"https://{host}/{CHALICE_API_STAGE}/",
                }
            )
        return {"schema_version": "2.0", "backend": "api", "resources": resources}


@dataclass(slots=True)
class Applications:
    """Deploys and deletes the applications of a topology. May be used from several threads."""

    clients: Clients
    topology: Topology
    services_dir: Path
    work_dir: Path
    say: Any
    stopping: threading.Event = field(default_factory=threading.Event)
    chalice: Sequence[str] = CHALICE
    command: str = "infra deploy"

    def outputs(self, step: Application) -> Mapping[str, str]:
        """`RestAPIId` of what is deployed; nothing when nothing is."""
        found = self.find(step)
        return {"RestAPIId": found.rest_api} if found.rest_api and found.functions else {}

    def deploy(self, step: Application, outputs: Outputs) -> Mapping[str, str]:
        """Brings the application to what the clone and `outputs` say. Raises ApplicationError for a
        stage that is no region of the topology, and when Chalice fails."""
        self._known(step)
        copy = self._copy(step)
        config_file = copy / ".chalice" / "config.json"
        config = json.loads(config_file.read_text())
        config = configured(config, step, stage_part(self.topology, step, outputs))
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        digest = digest_of(copy)
        found = self.find(step)
        same = found.digest == digest and found.rest_api
        patches = self._patches(step, found.rest_api, outputs) if same else None
        if patches == Patches():
            self.say(f"{step.name} ({step.region}): unchanged")
            return {"RestAPIId": found.rest_api}
        if patches is None:
            found = self._deployed(step, copy, found)
            patches = self._patches(step, found.rest_api, outputs)
            if patches is None:
                raise self._lost(step, f"its REST API has no stage {CHALICE_API_STAGE}")
        elif patches.api:
            self._mark(step, found, "")
        self._set(step, found, patches)
        self._mark(step, found, digest)
        return {"RestAPIId": found.rest_api}

    def settings(self, step: Application, outputs: Outputs) -> tuple[str, ...]:
        """What `deploy` would set on the REST API that is there, by name; nothing when it is as
        wanted, or not whole yet. Raises WiringError while there is no log group."""
        patches = self._patches(step, outputs[step.name]["RestAPIId"], outputs)
        return patches.names if patches else ()

    def _patches(self, step: Application, rest_api: str, outputs: Outputs) -> Patches | None:
        wanted = Settings(access_log_of(step, outputs), api_settings.log_format())
        client = self.clients.get("apigateway", step.region)
        with self._explained(step):
            return api_settings.read(client, rest_api, CHALICE_API_STAGE, wanted)

    def _set(self, step: Application, found: Deployed, patches: Patches) -> None:
        client = self.clients.get("apigateway", step.region)
        if patches.names:
            self.say(f"{step.name} ({step.region}): REST API: {', '.join(patches.names)}")
        with self._explained(step):
            api_settings.apply(client, found.rest_api, CHALICE_API_STAGE, patches)

    def _deployed(self, step: Application, copy: Path, before: Deployed) -> Deployed:
        self.say(f"{step.name} ({step.region}): chalice deploy --stage {step.region}")
        self._chalice("deploy", step, copy, before)
        after = self.find(step)
        if not after.rest_api:
            raise self._lost(
                step,
                f"no REST API named {step.service} calls the function {base_name(step)} in "
                f"{step.region}",
            )
        return after

    def _lost(self, step: Application, why: str) -> ApplicationError:
        return ApplicationError(
            f"{step.name}: chalice deploy ended well, but {why}",
            f"read {self._log(step)}, then: {self.command}",
        )

    def _mark(self, step: Application, found: Deployed, digest: str) -> None:
        with self._explained(step):
            self.clients.get("lambda", step.region).tag_resource(
                Resource=found.functions["api_handler"], Tags={TAG_SOURCE: digest}
            )

    def delete(self, step: Application) -> None:
        """Deletes functions, roles, REST API and logs; no error when nothing is there."""
        self._known(step)
        found = self.find(step)
        if found != Deployed():
            self.say(f"{step.name} ({step.region}): chalice delete --stage {step.region}")
            copy = self._copy(step)
            self._chalice("delete", step, copy, found)
        logs = self.clients.get("logs", step.region)
        names = {base_name(step), *(arn.rsplit(":", 1)[-1] for arn in found.functions.values())}
        for name in sorted(names):
            with self._explained(step), contextlib.suppress(
                logs.exceptions.ResourceNotFoundException
            ):
                logs.delete_log_group(logGroupName=f"/aws/lambda/{name}")

    # ---- what there is

    def find(self, step: Application) -> Deployed:
        """What there is of the application, asked of AWS. Raises ApplicationError when two REST
        APIs call its function: only one can be the one that Chalice goes on with."""
        functions, roles, digest = self._functions(step)
        apis = self._rest_apis(step)
        if len(apis) > 1:
            raise ApplicationError(
                f"{step.name}: {len(apis)} REST APIs named {step.service} in {step.region} call "
                f"{base_name(step)}: {', '.join(apis)}",
                "see which one the custom domain uses (aws apigateway get-base-path-mappings "
                f"--domain-name {self.topology.host(step.service)} --region {step.region}), delete "
                f"the other (aws apigateway delete-rest-api), then: {self.command}",
            )
        return Deployed(functions, roles, apis[0] if apis else "", digest)

    def _functions(self, step: Application) -> tuple[dict[str, str], dict[str, str], str]:
        base, client = base_name(step), self.clients.get("lambda", step.region)
        functions, roles, digest = {}, {}, ""
        with self._explained(step):
            for page in client.get_paginator("list_functions").paginate():
                for found in page["Functions"]:
                    name = resource_name(found["FunctionName"], base)
                    if name is None:
                        continue
                    arn = found["FunctionArn"]
                    tags = client.list_tags(Resource=arn)["Tags"]
                    if not self._ours(step, name, tags):
                        continue
                    functions[name] = arn
                    role = found["Role"].rsplit("/", 1)[-1]
                    if role == f"{base}-{name}":
                        roles[f"{name}_role"] = found["Role"]
                    if name == "api_handler":
                        digest = tags.get(TAG_SOURCE, "")
        return functions, roles, digest

    def _ours(self, step: Application, name: str, tags: Mapping[str, str]) -> bool:
        marks = dict(
            part.partition("=")[::2] for part in tags.get(CHALICE_TAG, "").split(":") if part
        )
        if (marks.get("app"), marks.get("stage")) == (step.service, step.region):
            return True
        if name == "api_handler":
            raise ApplicationError(
                f"{step.name}: there is a function {base_name(step)} in {step.region} that Chalice "
                f"has not made for the service {step.service}",
                "rename the service in topology.toml, or delete that function",
            )
        return False

    def _rest_apis(self, step: Application) -> list[str]:
        client = self.clients.get("apigateway", step.region)
        with self._explained(step):
            named = [
                api["id"]
                for page in client.get_paginator("get_rest_apis").paginate()
                for api in page["items"]
                if api["name"] == step.service
            ]
            return [api for api in named if self._calls(client, api, base_name(step))]

    @staticmethod
    def _calls(client: Any, api: str, function: str) -> bool:
        pages = client.get_paginator("get_resources").paginate(restApiId=api, embed=["methods"])
        return any(
            f":function:{function}/invocations"
            in method.get("methodIntegration", {}).get("uri", "")
            for page in pages
            for resource in page["items"]
            for method in resource.get("resourceMethods", {}).values()
        )

    # ---- Chalice

    def _known(self, step: Application) -> None:
        if step.region not in self.topology.regions:
            raise ApplicationError(
                f"{step.name}: stage {step.region!r} is not a region of the topology; known are "
                f"{', '.join(self.topology.regions)}",
                "a stage has the name of its region; correct topology.toml or the stage",
            )

    def _copy(self, step: Application) -> Path:
        """A fresh working copy, links followed."""
        prepare_work_dir(self.work_dir)
        copy = self.work_dir / "work" / f"{step.service}-{step.region}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.services_dir / step.folder, copy, ignore=_not_sources)
        return copy

    def _chalice(self, verb: str, step: Application, copy: Path, found: Deployed) -> None:
        deployed = copy / ".chalice" / "deployed" / f"{step.region}.json"
        deployed.parent.mkdir(parents=True, exist_ok=True)
        deployed.write_text(json.dumps(found.document(step.region)))
        argv = [*self.chalice, verb, "--stage", step.region]
        log = self._log(step)
        code = self._run(argv, copy, log, environment(step.region))
        if code != 0:
            tail = "\n".join(f"    {x}" for x in log.read_text(errors="replace").splitlines()[-12:])
            raise ApplicationError(
                f"{step.name}: chalice {verb} --stage {step.region} failed with exit code {code}:\n"
                f"{tail}",
                f"mend the reason (all of it: {log}), then: {self.command}",
            )

    def _run(self, argv: Sequence[str], copy: Path, log: Path, environ: Mapping[str, str]) -> int:
        """Exit code of a command whose output goes to `log`. It is its own process group; when the
        deployment is interrupted or the time is up the whole group ends."""
        with log.open("w") as output:
            process = subprocess.Popen(
                argv, cwd=copy, env=dict(environ), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                return self._awaited(process, log)
            finally:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGTERM)
                    process.wait()

    def _awaited(self, process: subprocess.Popen[bytes], log: Path) -> int:
        waited = 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.5)
            waited += 0.5
            if self.stopping.is_set():
                raise InterruptedDeployError("interrupted", f"{self.command} continues")
            if waited > TIMEOUT_SECONDS:
                raise ApplicationError(
                    f"Chalice did not end within {TIMEOUT_SECONDS:.0f} s",
                    f"read {log}, then: {self.command}",
                )

    def _log(self, step: Application) -> Path:
        return self.work_dir / f"{step.name}.log"

    def _explained(self, step: Application) -> Any:
        return explained(step.name, step.region, self.command)


def prepare_work_dir(path: Path) -> None:
    """Makes the directory of working copies and logs, which git does not see."""
    path.mkdir(parents=True, exist_ok=True)
    (path / ".gitignore").write_text("*\n")


def base_name(step: Application) -> str:
    """Name of the function behind the REST API; Chalice makes it from application and stage."""
    return f"{step.service}-{step.region}"


def resource_name(function: str, base: str) -> str | None:
    """Chalice's name of a function's resource, or None when it is no function of `base`."""
    if function == base:
        return "api_handler"
    return function.removeprefix(f"{base}-") if function.startswith(f"{base}-") else None


def environment(region: str) -> dict[str, str]:
    """This process's, with the region from the stage. Credentials are let through."""
    return os.environ | {
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _not_sources(directory: str, names: Sequence[str]) -> set[str]:
    left_behind = _LEFT_BEHIND.get(Path(directory).name, set())
    return {n for n in names if n in left_behind or n == "__pycache__" or n.endswith("_cache")}


def _files(folder: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _not_sources(directory, folders))
        for name in sorted(names):
            yield Path(directory, name)


def digest_of(copy: Path) -> str:
    """Names everything that decides what is deployed from a working copy."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}\n".encode())
    for path in _files(copy):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(copy)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


def migrate(
    clients: Clients, step: Application, primary_region: str, command: str
) -> Mapping[str, Any]:
    """Runs the service's migrations in the region of `step`, which must be the writer's; returns
    what the function answers. Raises ApplicationError when it fails."""
    function = f"{base_name(step)}-migrate"
    with explained(step.name, step.region, command):
        answer = clients.get("lambda", step.region).invoke(
            FunctionName=function,
            Payload=json.dumps({"primary_region": primary_region}).encode(),
        )
        payload = answer["Payload"].read()
    if answer.get("FunctionError"):
        raise ApplicationError(
            f"{function} ({step.region}): {payload.decode(errors='replace')[:400]}",
            f"read its log (aws logs tail /aws/lambda/{function} --region {step.region}), then: "
            f"{command}",
        )
    result: Mapping[str, Any] = json.loads(payload)
    return result

"""The commands that speak to AWS: `plan --live`, `deploy`, `configure`, `export`, `destroy`.

Each makes the same few things (clients, backends, the list of steps), does its work and returns an
exit code: 0 done, 1 something failed (the message has the next command), 3 `destroy` has shown what
it would do and waits for its code, 130 interrupted.

Downside: every command asks AWS anew for all that there is, some ten seconds for 50 services.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra import leftovers, planning, review, staging
from infra.applications import Applications
from infra.backend import needs_of
from infra.clients import Clients
from infra.cloudformation import CloudFormation, Pace
from infra.configure import REQUIRED, write_config
from infra.data_stacks import GLOBAL_DATABASE, database_step, has_database
from infra.deploying import Deployment
from infra.destroying import Destruction, confirmation, losses, protected
from infra.errors import InterruptedDeployError, explained
from infra.exporting import export
from infra.naming import stack_name
from infra.preflight import Account, certificate_help, check, refuse_options
from infra.stacks import ZONE, stack_list
from infra.steps import Application, Stack, Step
from infra.topology import Topology
from infra.whereabouts import refuse_away

SHOWN, INTERRUPTED = 3, 130
CERTIFICATE_SECONDS = 90.0
"""A certificate whose zone is delegated is issued within that, usually."""


@dataclass(slots=True)
class Console:
    """Lines for a person, with the seconds since the start; from several threads."""

    clock: Callable[[], float] = time.monotonic
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(f"[{self.clock() - self.began:5.0f} s] {line}\n")
            sys.stdout.flush()


@dataclass(slots=True)
class Session:
    """What every command needs."""

    options: argparse.Namespace
    topology: Topology
    clients: Clients
    pace: Pace
    stopping: threading.Event = field(default_factory=threading.Event)
    console: Console = field(default_factory=Console)
    chalice: tuple[str, ...] = ()
    """Another command in place of Chalice; for tests."""

    @property
    def command(self) -> str:
        """The command as it was given, without options of one run only."""
        region = getattr(self.options, "only_region", "")
        return self.with_words(self.options.command, *(["--only-region", region] if region else []))

    def with_words(self, *command: str) -> str:
        """Another command, for the same topology and account."""
        words = ["infra"]
        if str(self.options.topology) != "topology.toml":
            words += ["--topology", str(self.options.topology)]
        if self.options.profile:
            words += ["--profile", self.options.profile]
        return " ".join((*words, *command))

    def account(self) -> Account:
        given = getattr(self.options, "hosted_zone", "") or ""
        role = getattr(self.options, "role_arn", "")
        return check(self.clients, self.topology, given, self.command, role)

    def deployment(self, account: Account) -> tuple[Deployment, CloudFormation, Applications]:
        stacks = CloudFormation(
            self.clients,
            self.topology,
            self.console.say,
            self.pace,
            watch=CertificateWatch(self),
            command=self.command,
            recreate_failed=getattr(self.options, "recreate_failed", False),
            role=account.role,
        )
        here = self.options.topology.parent
        applications = Applications(
            self.clients,
            self.topology,
            here / "services",
            (here / ".infra").absolute(),
            self.console.say,
            self.stopping,
            command=self.command,
        )
        if self.chalice:
            applications.chalice = self.chalice
        steps = stack_list(self.topology, existing_hosted_zone_id=account.hosted_zone)
        deployment = Deployment(
            self.topology,
            steps,
            stacks,
            applications,
            self.console.say,
            command=self.command,
            stopping=self.stopping,
        )
        return deployment, stacks, applications


    def left_over(self, stacks: CloudFormation) -> tuple[Step, ...]:
        """What is there and no longer declared."""
        present = stacks.present(leftovers.regions(self.topology))
        return leftovers.leftovers(self.topology, present)


@dataclass(slots=True)
class CertificateWatch:
    """Says, once per region, what a certificate waits for."""

    session: Session
    _told: set[str] = field(default_factory=set)

    def __call__(self, step: Stack, seconds: float) -> None:
        due = step.template == "certificate.yaml" and seconds >= CERTIFICATE_SECONDS
        if not due or step.region in self._told:
            return
        self._told.add(step.region)
        session = self.session
        zone_step = next(
            s for s in stack_list(session.topology) if isinstance(s, Stack) and s.name == ZONE
        )
        backend = CloudFormation(session.clients, session.topology, session.console.say)
        zone = backend.outputs(zone_step).get("HostedZoneId", "")
        for line in certificate_help(
            session.clients, session.topology, step.region, zone, session.command
        ):
            session.console.say(line)


def pace_of(stopping: threading.Event, poll: float = 5.0) -> Pace:
    """Time as it is; waiting ends at once when the run is told to stop."""

    def sleep(seconds: float) -> None:
        if stopping.wait(seconds):
            raise InterruptedDeployError("interrupted", "the same command again continues")

    return Pace(sleep=sleep, poll=poll)


# ---- the commands


def plan(session: Session) -> int:
    """`infra plan`, with `--live` against the account."""
    options = session.options
    if not (options.live or options.drift):
        lines = planning.plan(session.topology, stack_list(session.topology))
        show = planning.as_json if options.json else planning.table
        sys.stdout.write(show(session.topology, lines) + "\n")
        return 0
    account = session.account()
    refuse_options(session.topology, account, session.command)
    deployment, stacks, _ = session.deployment(account)
    session.console.say(f"account {account.number}, as {account.identity}")
    plans = deployment.live_plan()
    sys.stdout.write(planning.live_table(plans) + "\n")
    faults = [fault for each in plans for fault in each.faults()]
    for fault in faults:
        sys.stdout.write(f"refused: {fault}\n")
    for line in planning.leftover_lines(session.topology, session.left_over(stacks)):
        sys.stdout.write(f"{line}\n")
    if options.drift:
        for line in drift_lines(session, stacks):
            sys.stdout.write(line + "\n")
    return 1 if faults or any(each.error for each in plans) else 0


def drift_lines(session: Session, stacks: CloudFormation) -> list[str]:
    """What differs in the stacks of the database, each difference with what to think of it."""
    if not has_database(session.topology):
        return ["no database, so there is no drift to look at"]
    names = {GLOBAL_DATABASE, *(database_step(region) for region in session.topology.regions)}
    lines = []
    for step in stack_list(session.topology):
        if not isinstance(step, Stack) or step.name not in names or not stacks.describe(step):
            continue
        client = session.clients.get("cloudformation", step.region)
        name = stack_name(session.topology, step)
        with explained(step.name, step.region, session.command):
            detection = client.detect_stack_drift(StackName=name)["StackDriftDetectionId"]
            while True:
                status = client.describe_stack_drift_detection_status(
                    StackDriftDetectionId=detection
                )["DetectionStatus"]
                if status != "DETECTION_IN_PROGRESS":
                    break
                session.pace.sleep(session.pace.poll)
            found = client.describe_stack_resource_drifts(StackName=name)["StackResourceDrifts"]
        for drift in review.drifts(found):
            verdict = "left alone: a move of the database explains it" if drift.expected else (
                "not explained by a move; somebody changed it by hand"
            )
            lines.append(
                f"{step.name} ({step.region}): {drift.logical_id}.{drift.name} "
                f"{drift.kind}: {verdict}"
            )
    return lines or ["no drift in the stacks of the database"]


def deploy(session: Session) -> int:
    """`infra deploy`."""
    account = session.account()
    refuse_options(session.topology, account, session.command)
    deployment, stacks, _ = session.deployment(account)
    unknown = set(session.options.allow_replacement) - {step.name for step in deployment.steps}
    if unknown:
        sys.stderr.write(f"--allow-replacement: no such step: {', '.join(sorted(unknown))}\n")
        return 2
    lines = planning.plan(session.topology, deployment.steps)
    session.console.say(
        f"{session.topology.domain}: {len(deployment.steps)} steps, about "
        f"${sum(line.dollars for line in lines):,.0f} a month, account {account.number}, "
        f"as {account.identity}"
    )
    if session.options.only_region:
        return _deploy_region(session, deployment)
    refuse_away(session.clients, deployment, session.pace, session.command)
    outputs = deployment.deploy(session.options.allow_replacement)
    deployment.migrate(session.clients, outputs)
    for line in planning.leftover_lines(session.topology, session.left_over(stacks)):
        session.console.say(f"{line}; infra destroy --leftovers deletes it")
    servers = outputs[ZONE].get("NameServers")
    if servers:
        session.console.say(f"name servers of {session.topology.domain}: {servers}")
    session.console.say("deployed; next: " + session.command.replace("deploy", "export"))
    return 0


def _deploy_region(session: Session, deployment: Deployment) -> int:
    """`infra deploy --only-region`."""
    region = session.options.only_region
    selection = staging.select(deployment.steps, region)
    outputs = staging.deploy_region(deployment, selection, session.options.allow_replacement)
    staging.migrate_region(deployment, selection, session.clients, outputs)
    verify, rest = session.with_words("verify", region), session.with_words("deploy")
    session.console.say(f"{region} is deployed; next: {verify}, and for the rest: {rest}")
    return 0


def configure(session: Session) -> int:
    """`infra configure`: writes each stage's part of the services' config.json in the clone."""
    account = session.account()
    deployment, _, _ = session.deployment(account)
    outputs = deployment.outputs()
    missing = 0
    for step in deployment.steps:
        if not isinstance(step, Application):
            continue
        absent = sorted(needs_of(deployment.steps)[step.name] - outputs.keys())
        if absent:
            missing += 1
            session.console.say(f"{step.name}: not yet, it needs {', '.join(absent)}")
            continue
        folder = session.options.topology.parent / "services" / step.folder
        changed = write_config(folder, session.topology, step, outputs)
        keys = ", ".join(("SERVICE_NAME", *REQUIRED.get(step.folder, ())))
        session.console.say(
            f"{step.name}: {'written' if changed else 'as it was'} (required keys there: {keys})"
        )
    if missing:
        session.console.say("next: " + session.command.replace("configure", "deploy"))
    return 1 if missing else 0


def export_recovery(session: Session) -> int:
    """`infra export`."""
    account = session.account()
    deployment, _, _ = session.deployment(account)
    path: Path = session.options.file
    export(
        session.clients,
        session.topology,
        deployment.outputs(),
        path,
        session.console.say,
        session.pace,
        session.command,
    )
    session.console.say(f"keep a copy of {path} outside AWS")
    session.console.say(f"next: failover --recovery-file {path} status")
    return 0


def destroy(session: Session) -> int:
    """`infra destroy`: shows and gives a code; with the code, does it."""
    options = session.options
    account = session.account()
    deployment, stacks, applications = session.deployment(account)
    left = session.left_over(stacks)
    if options.leftovers:
        deployment.refuse_before_deployed()
    declared = () if options.leftovers else deployment.steps
    deployment = replace(deployment, steps=(*declared, *left))
    work = Destruction(
        deployment,
        stacks,
        applications,
        session.clients,
        session.console.say,
        options.final_snapshot,
        options.keep_zone,
        session.command,
    )
    existing = work.existing(account.number)
    if not existing.stacks and not existing.applications:
        what = "that is no longer declared " if options.leftovers else ""
        session.console.say(f"nothing {what}of {session.topology.domain} is deployed")
        return 0
    code = confirmation(session.topology, existing)
    guarded = protected(session.topology, existing)
    if options.confirm != code or (guarded and not options.remove_deletion_protection):
        _show(session, existing.stacks, existing.applications, losses(session.topology, existing))
        if options.confirm and options.confirm != code:
            sys.stdout.write(f"\n{options.confirm} is not the code of what exists now.\n")
        flag = " --leftovers" if options.leftovers else ""
        flag += " --remove-deletion-protection" if guarded else ""
        if guarded:
            sys.stdout.write(f"\nProtected against deletion: {', '.join(guarded)}\n")
        again = f"{session.command}{flag} --confirm {code}"
        sys.stdout.write(f"\nNothing was done. To do it: {again}\n")
        return SHOWN
    work.destroy(existing)
    if options.leftovers:
        session.console.say("what was no longer declared is gone; the rest stands as it was")
        return 0
    session.console.say("everything is gone" + (" but the zone" if options.keep_zone else ""))
    return 0


def _show(
    session: Session, stacks: Mapping[str, Any], applications: tuple[str, ...], lost: list[str]
) -> None:
    sys.stdout.write(
        f"{session.topology.domain}: {_count(len(stacks), 'stack')} and "
        f"{_count(len(applications), 'application')} will be deleted:\n"
    )
    for name in (*applications, *reversed(list(stacks))):
        sys.stdout.write(f"  {name}\n")
    sys.stdout.write("\nLost for ever:\n" + "".join(f"  - {line}\n" for line in lost))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


COMMANDS: Mapping[str, Callable[[Session], int]] = {
    "plan": plan,
    "deploy": deploy,
    "configure": configure,
    "export": export_recovery,
    "destroy": destroy,
}

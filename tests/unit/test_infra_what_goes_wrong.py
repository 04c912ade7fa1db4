"""What goes wrong in a deployment, one row each: the run ends with the reason and with the next
command, and nothing that serves traffic is changed.

Every row begins with the same account: service `a` is deployed, its primary is On, and service `b`
was added to the topology. The command is `infra deploy`, against AWS in memory.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError
from infra_aws_fakes import FakeAws, FakeStack, FakeTime
from infra_services_fakes import DOMAIN, error

from infra.cli import main
from infra.commands import Session
from infra.naming import label
from infra.topology import Topology

EAST, WEST = "us-east-1", "us-west-2"
PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()
LINES = (f'domain = "{DOMAIN}"', f'regions = ["{EAST}", "{WEST}"]')


class Rig:
    def __init__(self, folder: Path) -> None:
        self.aws, self.time, self.folder = FakeAws(), FakeTime(), folder
        for name in ("a", "b"):
            service = folder / "services" / name
            (service / ".chalice").mkdir(parents=True)
            (service / "app.py").touch()
            (service / ".chalice/config.json").write_text('{"version": "2.0", "app_name": "x"}')
            for region in (EAST, WEST):
                self.application(name, region)
        self.topology(*LINES, "[services.a]")
        assert self.run("deploy") == 0
        self.topology(*LINES, "[services.a]", "[services.b]")
        routing = self.aws.stack("routing-a").outputs
        on, off = routing["PrimaryControlArn"], routing["SecondaryControlArn"]
        self.aws.states = {on: "On", off: "Off"}
        self.aws.calls.clear()
        self.aws.executed.clear()

    def topology(self, *lines: str) -> None:
        (self.folder / "topology.toml").write_text("\n".join(lines) + "\n")

    def application(self, name: str, region: str) -> None:
        """What Chalice would have made."""
        arn = f"arn:aws:lambda:{region}:111122223333:function:{name}-{region}"
        self.aws.functions[region, name] = {
            "FunctionName": f"{name}-{region}", "FunctionArn": arn, "Role": "arn:x:role/other",
        }  # fmt: skip
        self.aws.tags_of[arn] = {"aws-chalice": f"version=1:stage={region}:app={name}"}
        uri = f"x:function:{name}-{region}/invocations"
        self.aws.apis[region, f"{name}{region[3]}".ljust(10, "0")] = {"name": name, "uri": uri}

    def session(self, options: argparse.Namespace, topology: Topology) -> Session:
        session = Session(options, topology, self.aws, self.time.pace())
        session.chalice = ("true",)
        return session

    def run(self, *words: str) -> int:
        return main(["--topology", str(self.folder / "topology.toml"), *words], self.session)

    def serving(self) -> dict[str, Any]:
        """All that decides what `a` and the external API answer, and where."""
        found: dict[str, Any] = {"switches": dict(self.aws.states)}
        for stack in self.aws.stacks.values():
            if re.match("(domain|mapping|routing)-(a|api)", stack.step):
                found[f"{stack.region} {stack.step}"] = (stack.template, stack.parameters)
            if stack.step.startswith("gateway-"):
                paths = stack.template["Resources"]["RestApi"]["Properties"]["Body"]["paths"]
                found[f"{stack.region} {stack.step}"] = {
                    path: each for path, each in paths.items() if not path.startswith("/b")
                }
        return found

    # ---- faults

    def refuse(self, operation: str, raised: Exception, after: int = 0) -> None:
        """The call with that number, and all that follow, are refused."""
        count = 0

        def hook(service: str, region: str, name: str, params: Any) -> None:
            nonlocal count
            if operation in ("", name):
                count += 1
                if count > after:
                    raise raised

        self.aws.hook = hook

    def state(self, step: str, status: str, reason: str = "") -> None:
        stack = self.aws.stack(step)
        stack.status = status
        begun = {**stack.events[-1], "ResourceStatus": "UPDATE_IN_PROGRESS"}
        stack.events.insert(0, {**begun, "ClientRequestToken": "Console-1"})
        if reason:
            event = {**begun, "PhysicalResourceId": "x", "ResourceStatus": "UPDATE_FAILED"}
            stack.events.insert(0, {**event, "ResourceStatusReason": reason})

    def half_made(self, step: str, status: str) -> FakeStack:
        """A stack of `b` as an earlier run left it."""
        name = f"{DOMAIN.replace('.', '-')}-{step}"
        tags = {
            "two-region-api:domain": DOMAIN,
            "two-region-api:step": step,
            "two-region-api:regions": f"{EAST}+{WEST}",
        }
        stack = FakeStack(name, EAST, status, tags=tags)
        self.aws.stacks[EAST, name] = stack
        return stack


@pytest.fixture
def rig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rig:
    rig = Rig(tmp_path)
    capsys.readouterr()
    return rig


Prepare = Callable[[Rig], object]


@dataclass(frozen=True)
class Row:
    name: str
    prepare: Prepare
    reason: str
    next: str
    page: str
    """Part of the row in docs/troubleshooting.md."""
    code: int = 1


def certificate_pending(rig: Rig) -> None:
    """One region's certificate has to be made anew and its zone is not delegated."""
    name = rig.aws.stack(f"certificate-{EAST}").name
    del rig.aws.stacks[EAST, name]
    before = rig.aws.cloudformation_execute_change_set

    def slow(region: str, **given: Any) -> None:
        stack = rig.aws.change_sets[given["ChangeSetName"]].stack
        before(region, **given)
        stack.looks = 10_000 if stack.step == f"certificate-{EAST}" else 0

    rig.aws.cloudformation_execute_change_set = slow  # type: ignore[method-assign]


def interrupted(rig: Rig) -> None:
    rig.refuse("execute_change_set", KeyboardInterrupt(), after=2)  # type: ignore[arg-type]


def zone_of_another(rig: Rig) -> None:
    rig.aws.stacks.clear()
    rig.aws.zones = [
        {"Id": "/hostedzone/Z1", "Name": f"{DOMAIN}.", "CallerReference": "x",
         "Config": {"PrivateZone": False}},
    ]  # fmt: skip


def quota_in_a_stack(rig: Rig) -> None:
    rig.aws.failing["routing-b"] = "Limit exceeded: 300 routing controls (LimitExceededException)"


def failed_creation(rig: Rig) -> None:
    rig.aws.failing[f"domain-b-{EAST}"] = "The certificate is not valid for that name"


ROWS = [
    Row("the domain is missing",
        lambda rig: rig.topology(LINES[1], "[services.a]"),
        "domain: None is not a domain name", "correct ", "is not a domain name", 2),
    Row("the domain is none",
        lambda rig: rig.topology('domain = "shop"', LINES[1], "[services.a]"),
        "domain: 'shop' is not a domain name", "then the same command", "is not a domain name", 2),
    Row("nobody can own the domain",
        lambda rig: rig.topology('domain = "shop.test"', LINES[1], "[services.a]"),
        "shop.test cannot be deployed: nobody can own that name",
        "put a domain that you own into topology.toml", "nobody can own that name"),
    Row("the domain has a zone already",
        zone_of_another, f"there is a public zone of {DOMAIN} already: Z1",
        "deploy --hosted-zone Z1", "there is a public zone of"),
    Row("the certificate is pending",
        certificate_pending, "still CREATE_IN_PROGRESS after", "waits for it again",
        "is pending validation"),
    Row("the regions are swapped",
        lambda rig: rig.topology(LINES[0], f'regions = ["{WEST}", "{EAST}"]', "[services.a]"),
        f"is deployed for the regions {EAST}, {WEST}; topology.toml says {WEST}, {EAST}",
        "put the old regions back", "is deployed for the regions"),
    Row("a region is another one",
        lambda rig: rig.topology(LINES[0], f'regions = ["{EAST}", "eu-west-1"]', "[services.a]"),
        f"is deployed for the regions {EAST}, {WEST}; topology.toml says {EAST}, eu-west-1",
        "infra destroy", "is deployed for the regions"),
    Row("the credentials have expired",
        lambda rig: rig.refuse("", error("ExpiredToken", "is expired")),
        "the credentials have expired", "sign in again", "the credentials have expired"),
    Row("the credentials expire on the way",
        lambda rig: rig.refuse("create_change_set", error("ExpiredToken", "is expired"), after=30),
        "the credentials have expired", "sign in again", "the credentials have expired"),
    Row("there are no credentials",
        lambda rig: rig.refuse("", NoCredentialsError()),
        "Unable to locate credentials", "sign in again", "Unable to locate credentials"),
    Row("the credentials are not of this region",
        lambda rig: rig.refuse("", error("InvalidClientTokenId", "The security token is invalid")),
        "or this region is not switched on for the account", "aws account list-regions",
        "not switched on for the account"),
    Row("something is not allowed",
        lambda rig: rig.refuse(
            "create_change_set", error("AccessDenied", "not authorized to perform: x:Y"), after=30
        ),
        "AccessDenied: not authorized to perform: x:Y", "let this identity do what is named there",
        "`AccessDenied`"),
    Row("a quota of the account is used up by stacks",
        lambda rig: rig.refuse(
            "create_change_set", error("LimitExceededException", "Limit for stack exceeded"), 30
        ),
        "LimitExceededException", "aws service-quotas list-service-quotas", "limit"),
    Row("a quota of the account is used up in a stack",
        quota_in_a_stack, "Limit exceeded: 300 routing controls",
        "aws service-quotas list-service-quotas", "limit"),
    Row("the creation of a stack fails",
        failed_creation, "The certificate is not valid for that name",
        "deploy --recreate-failed", "is in ROLLBACK_COMPLETE"),
    Row("the creation of a stack had failed",
        lambda rig: rig.half_made(f"domain-b-{EAST}", "ROLLBACK_COMPLETE"),
        "is in ROLLBACK_COMPLETE", "deploy --recreate-failed", "is in ROLLBACK_COMPLETE"),
    Row("an update could not be taken back",
        lambda rig: rig.state("routing-a", "UPDATE_ROLLBACK_FAILED", "no such zone"),
        "(AWS::Some::Thing): no such zone",
        "aws cloudformation continue-update-rollback --stack-name", "UPDATE_ROLLBACK_FAILED"),
    Row("a deletion had failed",
        lambda rig: rig.half_made(f"domain-b-{EAST}", "DELETE_FAILED"),
        "is in DELETE_FAILED", "aws cloudformation delete-stack --stack-name", "DELETE_FAILED"),
    Row("somebody else is at it",
        lambda rig: rig.state("routing-api", "UPDATE_IN_PROGRESS"),
        "somebody else began that, not infra", "wait until it is done", "somebody else began that"),
    Row("the stack of that name is not ours",
        lambda rig: rig.aws.stack("routing-api").tags.clear(),
        "belongs to something else", "look at it in the console", "belongs to something else"),
    Row("it is interrupted",
        interrupted, "interrupted; AWS goes on", "The same command again continues",
        "interrupted; AWS goes on", 130),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_says_why_and_what_to_do_and_changes_nothing_that_serves(
    rig: Rig, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rig.serving()
    row.prepare(rig)
    if row.name.startswith(("the domain has a zone", "the stack of that name")):
        before = rig.serving()  # the account itself is another one here

    code = rig.run("deploy")

    said = capsys.readouterr().err
    assert code == row.code, said
    assert row.reason in said
    assert row.next in said
    assert "Traceback" not in said
    assert rig.serving() == before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_page_about_trouble_has_it(row: Row) -> None:
    assert row.page in PAGE


def test_a_pending_certificate_says_what_it_waits_for(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate_pending(rig)

    rig.run("deploy")

    out = capsys.readouterr().out
    assert f"certificate in {EAST} is pending validation; ACM looks for" in out
    assert f"The registrar of {DOMAIN} must name its servers" in out
    assert f"dig +short NS {DOMAIN}" in out


@pytest.mark.parametrize("first", [interrupted, failed_creation, quota_in_a_stack])
def test_what_was_left_half_finished_is_finished_by_the_next_run(
    rig: Rig, first: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rig.serving()
    first(rig)
    assert rig.run("deploy") != 0
    rig.aws.hook = None

    assert rig.run("deploy", "--recreate-failed") == 0

    after = rig.serving()
    assert {name: after[name] for name in before} == before
    assert rig.aws.stack("routing-b").status == "CREATE_COMPLETE"
    assert "deployed; next: " in capsys.readouterr().out


def test_a_service_that_was_added_in_a_failed_run_has_no_name_yet(rig: Rig) -> None:
    """Its records come last."""
    failed_creation(rig)
    rig.run("deploy")
    assert not any(stack.step == "routing-b" for stack in rig.aws.stacks.values())


def test_every_line_of_the_account_is_this_deployments(rig: Rig) -> None:
    """The rig is what it says: one service is deployed, two are wanted."""
    steps = {stack.step for stack in rig.aws.stacks.values()}
    assert "routing-a" in steps
    assert "routing-b" not in steps
    name = label(Topology(DOMAIN, (EAST, WEST), {}))
    assert all(stack.name.startswith(name) for stack in rig.aws.stacks.values())
    assert json.dumps(rig.serving()["switches"]).count("On") == 1

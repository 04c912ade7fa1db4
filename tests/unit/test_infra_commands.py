"""The commands as a person gives them, against AWS in memory."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pytest
from infra_aws_fakes import FakeAws, FakeStack, FakeTime
from infra_services_fakes import DOMAIN, NOW, error

from infra import commands, prices
from infra.cli import main
from infra.cloudformation import CloudFormation
from infra.commands import CertificateWatch, Session
from infra.naming import stack_name, tags
from infra.stacks import stack_list
from infra.steps import Stack
from infra.topology import Topology, load_topology


class Shell:
    """One checkout; every call of `run` is a process of its own, with the same account."""

    def __init__(self, folder: Path) -> None:
        self.aws, self.time, self.folder = FakeAws(), FakeTime(), folder
        self.topology(f'domain = "{DOMAIN}"\nregions = ["us-east-1", "us-west-2"]\n[services.a]\n')
        service = folder / "services" / "a"
        (service / ".chalice").mkdir(parents=True)
        (service / "app.py").touch()
        self.config = service / ".chalice" / "config.json"
        self.config.write_text('{"version": "2.0", "app_name": "a"}')
        self.sessions: list[Session] = []

    def topology(self, text: str) -> None:
        (self.folder / "topology.toml").write_text(text)

    def session(self, options: argparse.Namespace, topology: Topology) -> Session:
        session = Session(options, topology, self.aws, self.time.pace())
        session.chalice = ("true",)  # what it would make is put there by `applications`
        self.sessions.append(session)
        return session

    def run(self, *words: str) -> int:
        file = str(self.folder / "topology.toml")
        return main(["--topology", file, *words], self.session)

    def applications(self) -> None:
        """What Chalice would have made."""
        for region in ("us-east-1", "us-west-2"):
            arn = f"arn:aws:lambda:{region}:111122223333:function:a-{region}"
            self.aws.functions[region, "a"] = {
                "FunctionName": f"a-{region}", "FunctionArn": arn, "Role": "arn:x:role/other",
            }  # fmt: skip
            self.aws.tags_of[arn] = {"aws-chalice": f"version=1:stage={region}:app=a"}
            name = f"{region[:2]}{region[-1]}".ljust(10, "0")
            uri = f"x:function:a-{region}/invocations"
            self.aws.apis[region, name] = {"name": "a", "uri": uri}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


Capture = pytest.CaptureFixture[str]


def test_the_plan_needs_no_account_and_little_time(capsys: Capture) -> None:
    began = time.process_time()  # not what a busy machine adds
    assert main(["plan"]) == 0
    assert time.process_time() - began < 3

    out = capsys.readouterr().out
    assert "cluster " in out
    assert f"a month while nobody uses it (list prices of us-east-1, {prices.AS_OF};" in out


def test_the_plan_for_a_program(shell: Shell, capsys: Capture) -> None:
    assert shell.run("plan", "--json") == 0

    document = json.loads(capsys.readouterr().out)
    steps = {step["name"]: step for step in document["steps"]}
    assert steps["cluster"]["dollars_a_month"] == 1825.0
    assert steps["routing-a"]["resources"] == 11  # without a database, whose conditions do not hold
    total = sum(s["dollars_a_month"] for s in document["steps"])
    assert document["dollars_a_month"] == pytest.approx(total)
    assert shell.aws.calls == []


def test_from_nothing_to_the_recovery_file_and_back(shell: Shell, capsys: Capture) -> None:
    shell.applications()

    assert shell.run("deploy") == 0
    out = capsys.readouterr().out
    assert "about $1,837 a month, account 111122223333, as arn:aws:iam" in out
    assert f"name servers of {DOMAIN}: ns-1.awsdns" in out
    assert out.rstrip().endswith("topology.toml export")

    assert shell.run("plan", "--live") == 0
    assert "unchanged" in capsys.readouterr().out

    assert shell.run("configure") == 0
    assert "application-a-us-east-1: written" in capsys.readouterr().out
    stages = json.loads(shell.config.read_text())["stages"]
    assert stages["us-west-2"]["environment_variables"] == {"SERVICE_NAME": "a"}

    stack = shell.aws.stack("routing-a")
    names = [n for n in stack.outputs if n.endswith("ControlArn")]
    shell.aws.states |= {stack.outputs[n]: "Off" for n in names}
    api = shell.aws.stack("routing-api")
    shell.aws.states |= {api.outputs[n]: "Off" for n in names}
    file = shell.folder / "recovery.json"
    assert shell.run("export", "--file", str(file)) == 0
    assert json.loads(file.read_text())["services"].keys() == {"a", "api"}
    assert "read back: all as wanted" in capsys.readouterr().out

    assert shell.run("destroy") == commands.SHOWN
    shown = capsys.readouterr().out
    assert "Lost for ever:\n  - every switch; recovery.json is worth nothing afterwards" in shown
    code = shown.rstrip().rsplit(" ", 1)[-1]
    assert not any(e.startswith("delete ") for e in shell.aws.executed)

    assert shell.run("destroy", "--confirm", "wrong") == commands.SHOWN
    assert "wrong is not the code of what exists now" in capsys.readouterr().out
    assert shell.run("destroy", "--confirm", code) == 0
    shell.aws.functions.clear()
    shell.aws.apis.clear()
    assert shell.run("destroy") == 0
    assert f"nothing of {DOMAIN} is deployed" in capsys.readouterr().out


def test_deletion_protection_needs_a_flag_of_its_own(shell: Shell, capsys: Capture) -> None:
    (shell.folder / "services" / "todo" / ".chalice").mkdir(parents=True)
    (shell.folder / "services" / "todo" / "app.py").touch()
    shell.topology(
        f'domain = "{DOMAIN}"\nregions = ["us-east-1", "us-west-2"]\n'
        '[services.todo]\ndatabase = "aurora"\n'
    )
    step = next(s for s in stack_list(_topology(shell)) if s.name == "global-database")
    assert isinstance(step, Stack)
    shell.aws.stacks["us-east-1", "x"] = _stack(shell, step)

    shell.run("destroy")
    code = capsys.readouterr().out.rstrip().rsplit(" ", 1)[-1]

    assert shell.run("destroy", "--confirm", code) == commands.SHOWN
    assert "Protected against deletion: global-database" in capsys.readouterr().out


def _topology(shell: Shell) -> Topology:
    return load_topology(shell.folder / "topology.toml")


def _stack(shell: Shell, step: Stack) -> Any:
    declared = _topology(shell)
    name = stack_name(declared, step)
    return FakeStack(name, step.region, "CREATE_COMPLETE", tags=tags(declared, step))


# ---- what is checked before


@pytest.mark.parametrize("domain", ["example.test", "shop.example", "example.com"])
def test_a_domain_that_nobody_can_own(shell: Shell, capsys: Capture, domain: str) -> None:
    shell.topology(f'domain = "{domain}"\nregions = ["us-east-1", "us-west-2"]\n[services.a]\n')

    assert shell.run("deploy") == 1

    error = capsys.readouterr().err
    assert f"{domain} cannot be deployed: nobody can own that name" in error
    assert "next: put a domain that you own into topology.toml" in error
    assert shell.aws.calls == []


def test_expired_credentials(shell: Shell, capsys: Capture) -> None:
    def refuse(service: str, region: str, name: str, params: Any) -> None:
        raise error("ExpiredToken", "The security token included in the request is expired")

    shell.aws.hook = refuse

    assert shell.run("deploy") == 1
    text = capsys.readouterr().err
    assert "credentials (us-east-1): the credentials have expired" in text
    assert "next: sign in again" in text


def test_a_zone_that_exists_already_is_not_made_twice(shell: Shell, capsys: Capture) -> None:
    shell.aws.zones = [
        {"Id": "/hostedzone/Z0123456789ABCDEFGHIJ", "Name": f"{DOMAIN}.",
         "CallerReference": "x", "Config": {"PrivateZone": False}},
    ]  # fmt: skip

    assert shell.run("deploy") == 1
    assert "deploy --hosted-zone Z0123456789ABCDEFGHIJ" in capsys.readouterr().err

    shell.applications()
    assert shell.run("deploy", "--hosted-zone", "Z0123456789ABCDEFGHIJ") == 0
    parameters = shell.aws.stack("zone").parameters
    assert parameters["ExistingHostedZoneId"] == "Z0123456789ABCDEFGHIJ"
    # Somebody else, who does not know the id.
    assert shell.run("deploy") == 0
    assert shell.aws.stack("zone").parameters == parameters
    capsys.readouterr()
    assert shell.run("deploy", "--hosted-zone", "Z1") == 1
    assert "uses the zone Z0123456789ABCDEFGHIJ, not Z1" in capsys.readouterr().err


def test_the_zone_of_another_domain(shell: Shell, capsys: Capture) -> None:
    shell.aws.zones = [
        {"Id": "/hostedzone/Z1", "Name": "other.com.", "CallerReference": "x"},
    ]

    assert shell.run("deploy", "--hosted-zone", "Z1") == 1
    assert f"public zone of other.com, not the public one of {DOMAIN}" in capsys.readouterr().err


def test_other_regions_than_those_that_are_deployed(shell: Shell, capsys: Capture) -> None:
    shell.applications()
    assert shell.run("deploy") == 0
    shell.topology(f'domain = "{DOMAIN}"\nregions = ["us-west-2", "us-east-1"]\n[services.a]\n')

    assert shell.run("deploy") == 1
    text = capsys.readouterr().err
    assert "is deployed for the regions us-east-1, us-west-2; topology.toml says us-west-2" in text


def test_a_step_that_is_not_there_cannot_be_allowed(shell: Shell, capsys: Capture) -> None:
    assert shell.run("deploy", "--allow-replacement", "zoen") == 2
    assert "no such step: zoen" in capsys.readouterr().err


def test_what_is_not_deployed_cannot_be_configured_or_exported(
    shell: Shell, capsys: Capture
) -> None:
    assert shell.run("export") == 1
    assert "there are no cluster endpoints\n" in capsys.readouterr().err


def test_a_certificate_that_stays_pending_shows_its_records_once(
    shell: Shell, capsys: Capture
) -> None:
    shell.applications()
    shell.run("deploy")
    watch = CertificateWatch(shell.sessions[-1])
    step = Stack("certificate-us-east-1", "us-east-1", "certificate.yaml")
    capsys.readouterr()

    watch(step, 10)
    assert capsys.readouterr().out == ""
    watch(step, 100)
    watch(step, 200)

    out = capsys.readouterr().out
    assert out.count("pending validation") == 1
    assert f"_1.{DOMAIN}. CNAME _2.acm-validations.aws." in out
    assert "ns-1.awsdns-0.com, ns-2.awsdns-0.net" in out


def test_the_drift_of_a_database_is_explained(shell: Shell, capsys: Capture) -> None:
    described = Path(__file__).parents[1] / "descriptions" / "drift-after-switchover.json"
    drifts = json.loads(described.read_text())
    (shell.folder / "services" / "todo" / ".chalice").mkdir(parents=True)
    (shell.folder / "services" / "todo" / "app.py").touch()
    shell.topology(
        f'domain = "{DOMAIN}"\nregions = ["us-east-1", "us-west-2"]\n'
        '[services.todo]\ndatabase = "aurora"\n'
    )
    session = shell.session(
        argparse.Namespace(command="plan", topology=Path("topology.toml"), profile=None),
        _topology(shell),
    )
    for step in stack_list(session.topology):
        if isinstance(step, Stack) and step.name in drifts:
            stack = _stack(shell, step)
            shell.aws.stacks[step.region, stack.name] = stack
    for entries in drifts.values():
        for each in entries:
            each["Timestamp"] = NOW
    shell.aws.drifts = drifts

    lines = commands.drift_lines(session, CloudFormation(shell.aws, session.topology, str))

    assert len(lines) == 3
    assert sum("left alone: a move of the database explains it" in line for line in lines) == 2
    assert any("BackupRetentionPeriod NOT_EQUAL: not explained by a move" in x for x in lines)
    assert not any(n in ("create_change_set", "delete_stack") for _, _, n, _ in shell.aws.calls)


def test_an_interruption_says_how_to_go_on(shell: Shell, capsys: Capture) -> None:
    def interrupt(service: str, region: str, name: str, params: Any) -> None:
        raise KeyboardInterrupt

    shell.aws.hook = interrupt

    assert shell.run("deploy") == commands.INTERRUPTED
    assert "The same command again continues" in capsys.readouterr().err


def test_what_is_no_longer_declared_is_shown_and_taken_down(shell: Shell, capsys: Capture) -> None:
    shell.applications()
    assert shell.run("deploy") == 0
    declared = load_topology(shell.folder / "topology.toml")
    old = Stack("routing-old", "us-west-2", "routing.yaml")
    name = stack_name(declared, old)
    shell.aws.stacks["us-west-2", name] = FakeStack(
        name, "us-west-2", "CREATE_COMPLETE", {"Resources": {}}, tags=tags(declared, old)
    )
    capsys.readouterr()

    assert shell.run("plan", "--live") == 0
    assert "no longer declared: routing-old (us-west-2)" in capsys.readouterr().out
    assert shell.run("destroy", "--leftovers") == 3
    shown = capsys.readouterr().out
    assert "1 stack and 0 applications" in shown
    code = shown.rstrip().rpartition(" ")[2]
    assert shell.run("destroy", "--leftovers", "--confirm", code) == 0

    assert "the rest stands as it was" in capsys.readouterr().out
    assert shell.aws.stacks["us-west-2", name].status == "DELETE_COMPLETE"
    assert shell.aws.stack("routing-a").status == "CREATE_COMPLETE"
    assert shell.run("destroy", "--leftovers") == 0
    assert "nothing that is no longer declared" in capsys.readouterr().out


def test_from_arc_to_alarms_and_without_the_cluster(shell: Shell, capsys: Capture) -> None:
    shell.applications()
    assert shell.run("deploy") == 0
    shell.topology(
        f'domain = "{DOMAIN}"\nregions = ["us-east-1", "us-west-2"]\n[api]\nswitch = "alarm"\n'
        '[services.a]\nswitch = "alarm"\n'
    )
    change = "routing-a (us-west-2): its switch would change from arc to alarm"
    capsys.readouterr()

    assert shell.run("plan", "--live") == 1
    shown = capsys.readouterr().out
    assert f"refused: {change}" in shown
    assert "no longer declared: cluster (us-west-2), $1,825.00 a month\n" in shown
    assert shell.run("destroy", "--leftovers") == 1  # routing-a still has its controls there
    assert "infra --topology" in capsys.readouterr().err

    assert shell.run("deploy") == 1
    assert change in capsys.readouterr().err
    assert not any("takeover" in name for name in shell.aws.executed)

    allowed = ("--allow-replacement", "routing-a", "--allow-replacement", "routing-api")
    assert shell.run("deploy", *allowed) == 0
    out = capsys.readouterr().out
    assert "cluster (us-west-2), $1,825.00 a month; infra destroy --leftovers deletes it" in out
    assert shell.run("destroy", "--leftovers") == 3
    code = capsys.readouterr().out.rstrip().rpartition(" ")[2]
    assert shell.run("destroy", "--leftovers", "--confirm", code) == 0
    assert "delete cluster" in shell.aws.executed
    capsys.readouterr()
    assert shell.run("plan", "--live") == 0
    assert "no longer declared" not in capsys.readouterr().out

    for region, other in (("us-east-1", "us-west-2"), ("us-west-2", "us-east-1")):
        for name in ("a", "api"):
            alarm = f"shop-example-domain-com-{name}-from-{other}"
            shell.aws.alarms[region, alarm] = {
                "AlarmName": alarm, "Namespace": "TwoRegionApi", "MetricName": "TakeOver",
                "Dimensions": [
                    {"Name": "Domain", "Value": DOMAIN}, {"Name": "Service", "Value": name},
                    {"Name": "Region", "Value": other},
                ],
                "StateValue": "OK",
            }  # fmt: skip
    file = shell.folder / "recovery.json"
    assert shell.run("export", "--file", str(file)) == 0
    assert json.loads(file.read_text())["cluster_endpoints"] == []
    assert "a: in us-east-1, not taken over" in capsys.readouterr().out

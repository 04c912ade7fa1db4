"""`infra deploy --only-region REGION`: one region of a release, nothing that the other one uses.

`select` is pure: the steps that are the region's own, and all that they need, however far away. Of
those others, a run creates what is missing and changes nothing that is there:

    own      the region's certificate, logs, domains, applications, mappings, external API, alarms
             and who is told by them, and database stacks: brought up as by `infra deploy`
    shared   of no region (zone, secrets, global database): created if missing, else left
    forced   the other region's, because an own step needs its outputs (its user pool, the first
             database): created if missing, else left, and said so

Records, dashboards and the other region's steps that nothing needs are not looked at. What is left
although it would change is shown with its changes, so that nobody takes a staged release for a
whole one; `infra deploy` carries them out.

Migrations run here only if the database's writer is in this region: they need the release's code,
which is only here. See `docs/delivery.md`.

Downside: which templates are regional is a table, `REGIONAL`. A new template that is missing there
counts as shared, so its stacks would be left out of a staged deployment; a test asks for a
decision. And a step that is there while something that it needs is not is brought up, whosever it
is; that takes somebody who has deleted a stack by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from infra.backend import needs_of
from infra.clients import Clients
from infra.data_stacks import GLOBAL_DATABASE
from infra.deploying import Deployment, LivePlan, StepsFailedError, writer_region
from infra.steps import Outputs, Stack, Step

REGIONAL = frozenset({
    "alarms.yaml", "certificate.yaml", "database.yaml", "domain.yaml", "gateway.yaml", "keys.yaml",
    "logging.yaml", "mapping.yaml", "network.yaml", "notifications.yaml", "takeover.yaml",
    "users.yaml",
})  # fmt: skip
"""Templates with one stack in each region; all others are of no region, wherever they lie."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The steps that bring up one region, in the order of the list they were taken from."""

    region: str
    steps: tuple[Step, ...]
    """Everything that `own` needs, itself included."""
    own: tuple[str, ...]
    shared: tuple[str, ...]
    forced: Mapping[str, tuple[str, ...]]
    """Step of the other region -> the selected steps that need it."""
    left: tuple[str, ...]
    """Not selected."""


def region_of(step: Step) -> str:
    """The region that a step belongs to, or nothing if it belongs to none."""
    if isinstance(step, Stack) and step.template not in REGIONAL:
        return ""
    return step.region


def select(steps: Sequence[Step], region: str) -> Selection:
    """What a deployment of `region` alone consists of."""
    needs = needs_of(steps)
    own = [step.name for step in steps if region_of(step) == region]
    wanted = _closure(own, needs)
    chosen = tuple(step for step in steps if step.name in wanted)
    return Selection(
        region,
        chosen,
        tuple(own),
        tuple(step.name for step in chosen if not region_of(step)),
        {
            step.name: tuple(s.name for s in chosen if step.name in needs[s.name])
            for step in chosen
            if region_of(step) not in ("", region)
        },
        tuple(step.name for step in steps if step.name not in wanted),
    )


def _closure(names: Sequence[str], needs: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs[name]
    return found


# ---- what a run does with the steps that are not the region's own


def held(selection: Selection, plans: Sequence[LivePlan]) -> list[LivePlan]:
    """Those of `plans` that are there already and not the region's own: they stay as they are."""
    return [
        each
        for each in plans
        if each.step.name not in selection.own and each.what in ("changed", "unchanged")
    ]


def remarks(selection: Selection, plans: Sequence[LivePlan]) -> Iterator[str]:
    """What a person should know before a staged deployment begins, a line each."""
    yield (
        f"only {selection.region}: {len(selection.own)} steps of its own, "
        f"{len(selection.steps) - len(selection.own)} that they need, {len(selection.left)} left"
    )
    kept = {each.step.name: each for each in held(selection, plans)}
    for name, because in selection.forced.items():
        if name not in kept:
            yield f"{name} is not {selection.region}'s; it is created, {because[0]} needs it"
    for name, each in kept.items():
        if each.what == "changed" and each.plan:
            of = "serves both regions" if name in selection.shared else "is the other region's"
            what = ", ".join(f"{c.action} {c.logical_id}" for c in each.plan.changes)
            yield (
                f"{name} would change ({what}) and is left as it is, because it {of}; "
                "a step here that needs the change fails until a whole infra deploy"
            )


def deploy_region(
    deployment: Deployment, selection: Selection, allowed: Collection[str] = ()
) -> dict[str, Mapping[str, str]]:
    """Brings up the selection; returns the outputs of its steps. Raises as `Deployment.deploy`."""
    staged = replace(deployment, steps=selection.steps)
    plans = staged.live_plan()
    kept = held(selection, plans)
    names = {each.step.name for each in kept}
    staged.refuse([each for each in plans if each.step.name not in names], allowed)
    for line in remarks(selection, plans):
        staged.say(line)
    outputs = {
        each.step.name: staged.stacks.outputs(each.step)
        for each in kept
        if isinstance(each.step, Stack)
    }
    result = staged.walk(allowed, done=outputs)
    if result.failures:
        raise StepsFailedError(result, f"when that is mended: {staged.command} (it continues)")
    return result.outputs


# ---- migrations


def migrate_region(
    deployment: Deployment,
    selection: Selection,
    clients: Clients,
    outputs: Outputs,
) -> None:
    """Migrations, if the writer is in this region; else says when they will run."""
    names = [s.name for s in deployment.topology.services.values() if s.database]
    if not names:
        return
    cluster = outputs[GLOBAL_DATABASE]["GlobalClusterName"]
    writer = writer_region(clients, deployment.topology, cluster, deployment.command)
    if writer == selection.region:
        deployment.migrate(clients, outputs)
    else:
        deployment.say(not_migrated(names, selection.region, writer))


def not_migrated(services: Sequence[str], region: str, writer: str) -> str:
    return (
        f"schema of {', '.join(services)}: not migrated, the writer is in {writer}. Until "
        f"{writer} is deployed too, the new code in {region} reads the old schema"
    )

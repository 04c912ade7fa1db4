"""The one interface behind which stacks are made, and the code that is the same for every backend.

`Backend` is implemented for AWS by `infra.cloudformation` (change sets) and for the lab by its
loader. Both are driven by the same two functions: `walk` takes steps in the order that follows from
what they need, and `bring_up` gives a stack its parameters (`infra.steps.parameters_of`) and lets
the backend plan and apply it. So the wiring of a deployment is exercised by every run of the lab.

Downside: the interface is synchronous and a step occupies a thread while AWS works on it; with some
ten threads and steps of minutes that does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.steps import Outputs, Stack, Step, parameters_of

ADD, MODIFY, REMOVE = "Add", "Modify", "Remove"


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack as it is."""

    status: str
    """As CloudFormation calls it, for example UPDATE_COMPLETE."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    stack_id: str = ""
    reason: str = ""
    role: str = ""
    """The service role with which the backend works on it, if it has one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that would change."""

    action: str
    """Add, Modify or Remove (and whatever else the backend calls it)."""
    logical_id: str
    type: str
    replacement: str = "False"
    """True, Conditional or False."""
    properties: tuple[str, ...] = ()
    """Names of the properties that cause it."""

    @property
    def replaces(self) -> bool:
        return self.action == MODIFY and self.replacement != "False"


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What `apply` would do to one stack. Good for one `apply` or `discard`."""

    step: Stack
    new: bool
    """The stack does not exist yet."""
    changes: tuple[Change, ...]
    handle: str = ""
    """The backend's own name of this plan; empty when there is nothing to do."""


class Backend(Protocol):
    """Where stacks are made. A step is found by its name and region. All methods may be called
    from several threads, for different steps."""

    def describe(self, step: Stack) -> StackState | None:
        """The stack as it is, or None."""

    def plan(
        self, step: Stack, document: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> ChangePlan:
        """What would change with this template and these parameters; changes nothing."""

    def apply(self, plan: ChangePlan) -> Mapping[str, str]:
        """Does it, waits until it is done and returns the stack's outputs."""

    def discard(self, plan: ChangePlan) -> None:
        """Forgets a plan that is not applied."""

    def outputs(self, step: Stack) -> Mapping[str, str]:
        """The outputs of a stack that is complete; nothing for one that is not there."""

    def delete(self, step: Stack) -> None:
        """Deletes the stack and waits; no error when it is not there."""


Review = Callable[[ChangePlan], None]
"""Raises when a plan must not be applied."""


def accept(plan: ChangePlan) -> None:
    """The review that lets everything pass."""


def bring_up(
    backend: Backend,
    step: Stack,
    document: Mapping[str, Any],
    outputs: Outputs,
    review: Review = accept,
) -> Mapping[str, str]:
    """Brings one stack to what template and outputs of earlier steps say; returns its outputs.

    Raises WiringError when an output is missing, and what backend and review raise. What the review
    refuses is discarded.
    """
    plan = backend.plan(step, document, parameters_of(step, outputs))
    try:
        review(plan)
    except BaseException:
        backend.discard(plan)
        raise
    return backend.apply(plan)


@dataclass(slots=True)
class Walk:
    """What became of each step."""

    outputs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Of the steps that are done."""
    failures: dict[str, Exception] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """Not begun: something that they need failed, or the walk ended before."""


Act = Callable[[Any, Outputs], Mapping[str, str]]
"""Does one step, with the outputs of those done before; returns its outputs."""


def needs_of(steps: Iterable[Step]) -> dict[str, set[str]]:
    """Step -> the steps of the same list that must be done before."""
    listed = {step.name: set(step.needs) for step in steps}
    return {name: needs & listed.keys() for name, needs in listed.items()}


def reversed_needs(needs: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same for taking down: what a step needs goes after it."""
    return {name: {other for other, of in needs.items() if name in of} for name in needs}


def walk(
    steps: Sequence[Step],
    act: Act,
    *,
    workers: int = 1,
    needs: Mapping[str, set[str]] | None = None,
    keep_going: bool = False,
    tolerated: Collection[str] = (),
    stop: Callable[[], None] = lambda: None,
) -> Walk:
    """Does `steps`, each as soon as those it needs are done, at most `workers` at a time; with one
    worker exactly in the order of the list, if that is a valid one.

    `needs`: instead of what the steps say. `keep_going`: after a failure go on with what does not
    depend on it, else begin nothing new. `tolerated`: names of steps after whose failure it goes on
    in any case. `stop` is called when the walk itself is interrupted, to end what is under way. A
    step that needs one that is not there raises ValueError before anything is done, and so does a
    circle.
    """
    wanted = dict(needs_of(steps) if needs is None else needs)
    _check(steps, wanted)
    result = Walk()
    waiting = {step.name: step for step in steps}
    running: dict[Future[Mapping[str, str]], str] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="step") as pool:
        try:
            while True:
                if keep_going or result.failures.keys() <= set(tolerated):
                    for name in _ready(waiting, wanted, result)[: workers - len(running)]:
                        step = waiting.pop(name)
                        running[pool.submit(act, step, dict(result.outputs))] = name
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    _note(future, running.pop(future), result)
        except BaseException:
            stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    result.skipped = list(waiting)
    return result


def _ready(
    waiting: Mapping[str, Step], needs: Mapping[str, set[str]], result: Walk
) -> list[str]:
    return [name for name in waiting if needs.get(name, set()) <= result.outputs.keys()]


def _note(future: Future[Mapping[str, str]], name: str, result: Walk) -> None:
    error = future.exception()
    if error is None:
        result.outputs[name] = future.result()
    elif isinstance(error, Exception):
        result.failures[name] = error
    else:
        raise error


def _check(steps: Sequence[Step], needs: Mapping[str, set[str]]) -> None:
    names = {step.name for step in steps}
    done: set[str] = set()
    while done != names:
        ready = {name for name in names - done if needs.get(name, set()) <= done}
        if not ready:
            raise ValueError(f"these steps wait for each other: {', '.join(sorted(names - done))}")
        done |= ready

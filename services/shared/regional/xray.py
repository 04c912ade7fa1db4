"""Imports the aws-xray-sdk without those parts that never run inside Lambda.

The whole SDK takes 13 ms to import, half of a bare handler's cold start. Half of that is spent on
four modules that an application which patches no library has no use for:

- `sampling.local.sampler`: Lambda has decided on sampling before the SDK is asked;
- `patcher`, and `utils.compat`, which reads classes for it: they bring the library's `inspect`;
- `wrapt`, for the SDK's own decorators.

While `aws_xray_sdk.core` is imported, small stand-ins lie in their places in `sys.modules`; then
they are taken away again, so that whoever imports wrapt later gets the real one. An application
that names libraries to patch gets all of the SDK but the sampler.

Downside: it knows the insides of one version of the SDK, so requirements.txt pins the version and
the tests compare what is sent with what the whole SDK sends. The SDK's own `patch` and decorators
(`@xray_recorder.capture`) are refused, with an explanation, unless the application names libraries.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_CORE = "aws_xray_sdk.core"
_SAMPLER = f"{_CORE}.sampling.local.sampler"


def load(libraries: tuple[str, ...]) -> Any:
    """The SDK's recorder, with `libraries` patched. Raises what the import raises."""
    stand_ins = {_SAMPLER: {"LocalSampler": _NoSampler}}
    if not libraries:
        stand_ins |= {
            f"{_CORE}.utils.compat": {"annotation_value_types": (int, float, bool, str)},
            f"{_CORE}.patcher": {"patch": _refuse, "patch_all": _refuse},
            "wrapt": {"decorator": lambda _wrapper: lambda _wrapped: _refuse},
        }
    with _standing_in(stand_ins), _no_garbage_collection():
        core = importlib.import_module(_CORE)
        if libraries:
            core.patch(libraries)
    return core.xray_recorder


class _NoSampler:
    """In the place of the SDK's LocalSampler, which is made but never asked inside Lambda."""


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError(
        "this application left parts of the X-Ray SDK out: name the libraries to patch in "
        "App(name, patch=(...)), and write `with app.tracer.span(name):` instead of a decorator"
    )


@contextmanager
def _standing_in(modules: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Puts modules with these contents into sys.modules, where none is, for the time being."""
    placed = {}
    for name, contents in modules.items():
        if name not in sys.modules:
            placed[name] = sys.modules[name] = ModuleType(name)
            placed[name].__dict__.update(contents)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """An import makes thousands of objects that stay; looking for garbage among them is waste."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

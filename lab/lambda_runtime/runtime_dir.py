"""The folder that stands for /var/runtime: what a function may import besides its own package.

On Lambda that is the runtime client and boto3 with what it needs, and nothing else. Here it is a
folder of links to those entries of the lab's own site-packages, so that a package that forgot a
dependency fails in the lab as it would on AWS.

Downside: the versions are those installed beside the lab, not those of the Lambda runtime.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_MODULES = (
    # the runtime client and what it needs
    "awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py",
    # what the managed Python runtimes bring besides (AWS docs "Building Lambda functions with
    # Python", "Runtime-included SDK versions")
    "boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3",
)  # fmt: skip


def make_runtime_dir(folder: Path) -> Path:
    """Make (or complete) `folder` and return it. Raises ModuleNotFoundError naming what is missing.

    Safe to repeat: an existing right link is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _MODULES:
        origin = _origin(name)
        link = folder / origin.name
        if link.is_symlink() and link.readlink() == origin:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(origin)
    return folder.absolute()


def _origin(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the Lambda runtime of the lab needs {name}; install group lab")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin

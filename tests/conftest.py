"""Which tests share a worker when several run at once (`pytest -n 2 --dist loadgroup`).

What starts whole labs is one group and comes first: never two of those at once, and everything else
runs beside it, file by file. Plain `pytest` runs all in one process, in the same order.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LABS = ("lab", "docs")


def _group(item: pytest.Item) -> str:
    folder, *_ = item.path.relative_to(TESTS).parts
    return "labs" if folder in LABS else str(item.path.relative_to(TESTS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _group(item) != "labs")

"""The tasks of `./inv`, as a module: tasks.py has the name of a folder beside it, so it cannot be imported by it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_tasks_file() -> ModuleType:
    """Return the module of tasks.py, loaded anew: invoke takes texts out of a task that is asked for its options."""
    spec = importlib.util.spec_from_file_location("the_tasks_of_inv", ROOT / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""The variables of this machine for what fetches packages: proxies, indexes and certificates.

The engine keeps them from all other children (`rehearsal/variables.py`) and hands them on as one variable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

VARIABLE = "REHEARSAL_DOWNLOADS"


def download_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a child that fetches packages.

    >>> download_environ({"PATH": "/bin", "REHEARSAL_DOWNLOADS": '{"https_proxy": "http://proxy:3128"}'})
    {'PATH': '/bin', 'https_proxy': 'http://proxy:3128'}
    """
    kept = {name: value for name, value in environ.items() if name != VARIABLE}
    return {**kept, **json.loads(environ.get(VARIABLE) or "{}")}

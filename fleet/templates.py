"""Texts of files on hosts, from `templates/`. Owns quoting for a shell; must not know any host."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

FOLDER = Path(__file__).resolve().parent.parent / "templates"


def render(template: str, **values: Any) -> str:
    """Render a template; a variable that is not given is an error, values are quoted by `| sh` where a shell reads."""
    env = jinja2.Environment(  # noqa: S701 -- configuration files, not HTML
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(sh=lambda value: shlex.quote(str(value)), supervisor=lambda value: str(value).replace("%", "%%"))
    return env.get_template(template).render(**values)


def database_url(host: str, port: int, database: str, user: str, password: str, **options: str | None) -> str:
    """Return a connection URL with every part quoted; an option that is None is left out.

    >>> database_url("h", 1, "d", "app", "p@ss'word")
    'postgresql://app:p%40ss%27word@h:1/d'
    >>> database_url("h", 1, "d", "app", "p", sslmode="verify-full", sslrootcert=None)
    'postgresql://app:p@h:1/d?sslmode=verify-full'
    """
    place = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(database, safe='')}"
    query = urlencode({name: value for name, value in options.items() if value is not None})
    return f"postgresql://{place}{'?' if query else ''}{query}"

"""SQL texts: find and render the files under `sql/`.

Owns the only place where the text of a file becomes a query. A template must quote every value by type:
`| ident` for names, `| literal` for values, `| raw` for SQL that PostgreSQL itself rendered (a column type, an
index definition). Anything unfiltered is an error.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, LiteralString, cast

import jinja2
from psycopg import sql

from rehearsal.errors import SqlFileError

Name = str | tuple[str, ...] | list[str]


class Quoted(str):
    """Text that is safe to stand in SQL as it is."""

    __slots__ = ()


def quote_ident(name: Name) -> Quoted:
    """Quote a name; a tuple is a qualified one.

    >>> quote_ident(("public", 'we"ird'))
    '"public"."we""ird"'
    """
    return _quoted((name,) if isinstance(name, str) else tuple(name))


@functools.lru_cache(maxsize=4_096)  # templates quote the same columns over and over
def _quoted(parts: tuple[str, ...]) -> Quoted:
    return Quoted(sql.Identifier(*parts).as_string(None))


def quote_literal(value: object) -> Quoted:
    """Quote a value as a literal.

    >>> quote_literal("it's")
    "'it''s'"
    """
    return Quoted(sql.Literal(value).as_string(None).strip())


def quote_idents(names: Iterable[Name]) -> Quoted:
    """Quote names, separated by commas."""
    return Quoted(", ".join(quote_ident(name) for name in names))


def quote_options(options: Iterable[str]) -> Quoted:
    """Write storage options, as pg_class keeps them, with their values as literals.

    >>> quote_options(["fillfactor=70", "autovacuum_enabled=off"])
    "fillfactor = '70', autovacuum_enabled = 'off'"
    """
    pairs = (option.partition("=") for option in options)
    return Quoted(", ".join(f"{name} = {quote_literal(value)}" for name, _, value in pairs))


def _finalize(value: object) -> str:
    if not isinstance(value, Quoted):
        message = f"unquoted value in an SQL template: {value!r}; filter it by | ident, | literal or | raw"
        raise SqlFileError(message)
    return value


def _environment(folder: Path) -> jinja2.Environment:
    env = jinja2.Environment(  # noqa: S701  -- SQL, not HTML: quoting is by type, see _finalize
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(ident=quote_ident, idents=quote_idents, literal=quote_literal, raw=Quoted)
    env.filters.update(options=quote_options)
    return env


class SqlFiles:
    """The SQL texts below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = _environment(folder)

    def headers(self) -> frozenset[str]:
        """Return the comments that statements of ours begin with, as pg_stat_statements keeps them."""
        lines = (line for path in self.folder.rglob("*.sql*") for line in path.read_text(encoding="utf-8").splitlines())
        return frozenset(line.strip() for line in lines if line.startswith("-- "))

    def text(self, name: str) -> str:
        """Return the text of a file as it is written.

        Raises:
            SqlFileError: there is no such file.
        """
        path = self.folder / name
        try:
            return path.read_text(encoding="utf-8")
        except OSError as exc:
            message = f"cannot read SQL file {name}: {exc.strerror}; look in {self.folder}"
            raise SqlFileError(message) from exc

    def render(self, name: str, **values: Any) -> str:
        """Render a template; every value must be quoted by a filter.

        Raises:
            SqlFileError: no such file, an unknown variable, a value without a filter, or a syntax error.
        """
        try:
            return self._env.get_template(name).render(**values)
        except jinja2.TemplateError as exc:
            message = f"cannot render SQL file {name}: {exc}"
            raise SqlFileError(message) from exc

    def query(self, name: str, **values: Any) -> sql.SQL:
        """Render a template as a query; parameters travel apart from it, as %(name)s."""
        return as_query(self.render(name, **values) if name.endswith(".j2") else self.text(name))


def as_query(text: str) -> sql.SQL:
    """Turn rendered text into a query. The text must come from `render` or a file, never from input."""
    # pyright wants a literal, mypy takes any text: this is the one place where a file's text becomes a query.
    return sql.SQL(cast("LiteralString", text))  # type: ignore[redundant-cast]


def checksum(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()

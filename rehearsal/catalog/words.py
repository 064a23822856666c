"""Statements as words: enough SQL to tell whether one names a table, and how. Pure.

No parser: a text of pg_stat_statements has `$1` where constants were and may be cut off. What stands in comments,
literals and dollar quotes is no word, so that neither a note nor a value looks like a use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SCAN = re.compile(
    r"""
    (?P<skip>\s+|--[^\n]*|/\*.*?\*/|(?<![\w$])\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$
        |\b[eE]'(?:[^'\\]|\\.|'')*'|(?:\b[bBxXnN])?'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>\$\d+|\d[\w.]*|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, with unquoted names in lower case; `is_quoted` tells a name from a keyword."""

    text: str
    is_quoted: bool = False


def read_words(text: str) -> tuple[Word, ...]:
    r"""Split a statement.

    >>> [one.text for one in read_words('DELETE FROM "Big T" -- t\n where ctid = $1 and x = \'t\'')]
    ['delete', 'from', 'Big T', 'where', 'ctid', '=', '$1', 'and', 'x', '=']
    """
    words: list[Word] = []
    for match in SCAN.finditer(text):
        if match["quoted"]:
            words.append(Word(match["quoted"][1:-1].replace('""', '"'), is_quoted=True))
        elif match["word"]:
            words.append(Word(match["word"].lower()))
        elif match["other"]:
            words.append(Word(match["other"]))
    return tuple(words)


def names_table(words: Sequence[Word], schema: str, table: str, *, only_first: bool = False) -> bool:
    """Return whether a statement names a table: with its schema, or with none; `only_first` looks at the first name.

    >>> names_table(read_words("delete from only public . t"), "public", "t")
    True
    >>> names_table(read_words("select t.x from other.t"), "public", "t")
    False
    """
    places = [place for place, word in enumerate(words) if word.text == table and _is_table(words, place, schema)]
    return bool(places) and (not only_first or places[0] in (0, 2))


def _is_table(words: Sequence[Word], place: int, schema: str) -> bool:
    after = words[place + 1].text if place + 1 < len(words) else ""
    if after == ".":
        return False
    if place >= 2 and words[place - 1].text == ".":
        return words[place - 2].text == schema
    return True


def has_run(words: Sequence[Word], *run: str) -> int:
    """Return the place after the first run of these keywords, 0 if there is none.

    >>> has_run(read_words("insert into t values ($1) on conflict do nothing"), "on", "conflict")
    9
    """
    for place in range(len(words) - len(run) + 1):
        if all(not word.is_quoted and word.text == wanted for word, wanted in zip(words[place:], run, strict=False)):
            return place + len(run)
    return 0


def has_word(words: Sequence[Word], *wanted: str) -> bool:
    """Return whether any of these stands in the statement, quoted or not: system columns may be quoted."""
    return any(word.text in wanted for word in words)


LITERAL = re.compile(r"(?:[eEbBxXnN]?'(?P<plain>.*)'|\$(?P<tag>\w*)\$(?P<dollar>.*)\$(?P=tag)\$)", re.DOTALL)


def read_literals(text: str) -> tuple[str, ...]:
    """Return what stands in the literals of a text.

    >>> read_literals("execute format('insert into %I', 't') /* 'x' */")
    ('insert into %I', 't')
    """
    found = (LITERAL.fullmatch(match["skip"]) for match in SCAN.finditer(text) if match["skip"])
    return tuple(match["plain"] or match["dollar"] or "" for match in found if match)


def mentions_table(text: str, schema: str, table: str, *, besides: str = "", deep: bool = False) -> bool:
    """Return whether a text names a table anywhere, with its schema or with none; rather once too often.

    What follows AS or the name `besides` is an alias. `deep`: in its literals as well, where functions have statements.

    >>> mentions_table('lock t', "public", "t"), mentions_table('select * from "T"', "public", "t")
    (True, False)
    >>> mentions_table("update t_new as t set v = t.v", "public", "t")
    False
    >>> mentions_table("execute 'delete from public . t'", "public", "t", deep=True)
    True
    """
    words = read_words(text)
    if any(word.text == table and _may_be(words, place, schema, besides) for place, word in enumerate(words)):
        return True
    return deep and any(
        mentions_table(said, schema, table, besides=besides, deep=len(said) < len(text)) for said in read_literals(text)
    )


def _may_be(words: Sequence[Word], place: int, schema: str, besides: str) -> bool:
    before = words[place - 1].text if place else ""
    if before == ".":
        return place >= 2 and words[place - 2].text == schema
    # A column of it is no use of its own: whatever it is of is named elsewhere.
    is_column = place + 1 < len(words) and words[place + 1].text == "."
    return not is_column and before not in ("as", besides or "as")

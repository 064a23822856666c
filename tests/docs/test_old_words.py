"""What people read says the glossary's words, and none of those that it replaced (`old_words.txt`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("old_words.txt")
GLOSSARY = re.compile(r"^## \d+\. Glossary$(.*)", re.MULTILINE | re.DOTALL)
PAST = ROOT / "docs" / "decisions"
# What these are given is shown as it is, though it is one word.
SHOWN = {"act", "_locked", "locked", "session", "bar", "row_counts", "note", "begin"}
QUOTED = re.compile(r"--.*|\{#.*?#\}|'[^']* [^']*'")


class Text(NamedTuple):
    """A text that people read, and where it stands."""

    scope: str
    path: str
    line: int
    text: str


@dataclass
class Right:
    """A place where an old word is right."""

    path: str
    pattern: str
    reason: str
    used: bool = False


@dataclass
class Word:
    """An old word, where it must not be, and where it may."""

    pattern: str
    scopes: set[str]
    instead: str
    rights: list[Right] = field(default_factory=list[Right])

    def matches(self, text: Text) -> bool:
        """Return whether the word stands in a text that it must not stand in."""
        within = text.scope in self.scopes or "all" in self.scopes
        if not within or not re.search(self.pattern, text.text, re.IGNORECASE):
            return False
        for right in self.rights:
            if fnmatch(text.path, right.path) and re.search(right.pattern, text.text):
                right.used = True
                return False
        return True


def read_words(text: str) -> list[Word]:
    """Read the list; what is neither a word nor a place is refused."""
    words: list[Word] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        kind, _, rest = line.partition(" ")
        first, second, third = rest.strip().split(" | ")
        if kind == "word":
            words.append(Word(first, set(second.split(", ")), third))
        else:
            assert kind == "right", line
            words[-1].rights.append(Right(first, second, third))
    return words


def lines_of(scope: str, paths: Iterable[Path], pattern: str = "") -> Iterator[Text]:
    """Yield the lines of files, those alone that have the pattern."""
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line):
                yield Text(scope, path.relative_to(ROOT).as_posix(), number, line)


def sql_texts(paths: Iterable[Path]) -> Iterator[Text]:
    """Yield the comments of SQL files, and the quoted texts of several words."""
    for scope, path, number, line in lines_of("sql", paths):
        yield from (Text(scope, path, number, found[0]) for found in QUOTED.finditer(line))


def plain(node: ast.expr) -> str | None:
    """Return the text of a literal, `{}` for each value that is put in; None for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(plain(part) or "" if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literals(tree: ast.AST, docstrings: set[int], *, shown: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the literals of several words, and single words that are shown as they are."""
    for node in ast.iter_child_nodes(tree):
        text = plain(node) if isinstance(node, ast.expr) else None
        if isinstance(node, ast.expr) and text is not None and id(node) not in docstrings and (shown or " " in text):
            yield node.lineno, text
        elif not isinstance(node, ast.JoinedStr):
            name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
            yield from literals(node, docstrings, shown=name in SHOWN)


def docstrings_of(tree: ast.AST) -> set[int]:
    """Return the docstrings of a module, which only those who read the code see."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def messages(path: Path) -> Iterator[Text]:
    """Yield the texts of a module; docstrings of tasks are their help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set[int]() if path.name == "tasks.py" else docstrings_of(tree)
    for line, text in literals(tree, hidden):
        yield Text("messages", path.relative_to(ROOT).as_posix(), line, text)


@cache
def texts() -> tuple[Text, ...]:
    """Return all that people read."""
    docs = [*ROOT.glob("[AR]*.md"), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    modules = [ROOT / "tasks.py", ROOT / "deploy.py"]
    modules += [path for folder in ("rehearsal", "fleet", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]
    return (
        *lines_of("docs", (path for path in docs if not path.is_relative_to(PAST))),
        *lines_of("plans", sorted((ROOT / "plans").glob("*.toml"))),
        *lines_of("plans", [ROOT / "plans" / "plan.schema.json"], '"description"'),
        *lines_of("help", [ROOT / "tests" / "docs" / "help.txt"]),
        *lines_of("templates", (path for path in sorted((ROOT / "templates").rglob("*")) if path.is_file())),
        *sql_texts(path for path in sorted((ROOT / "sql").rglob("*")) if path.is_file()),
        *(text for path in modules for text in messages(path)),
    )


def old_words(words: list[Word], among: Iterable[Text]) -> list[str]:
    """Return each old word with its place and the field's word."""
    return [
        f"{text.path}:{text.line}: {text.text.strip()[:160]!r} has /{word.pattern}/; say {word.instead}"
        for text in among
        for word in words
        if word.matches(text)
    ]


def test_no_old_word_is_read_by_anybody() -> None:
    assert old_words(read_words(LIST.read_text(encoding="utf-8")), texts()) == []


def test_every_exception_is_still_needed() -> None:
    """Each place where an old word is right has that word."""
    words = read_words(LIST.read_text(encoding="utf-8"))
    old_words(words, texts())
    assert [(word.pattern, right.path) for word in words for right in word.rights if not right.used] == []


MADE_UP = "word   \\bfrobnicate\\b | all | act\nright  a.md | `frobnicate` | a contract"


@pytest.mark.parametrize("scope", ["docs", "plans", "help", "messages", "templates", "sql"])
def test_a_made_up_old_word_is_found(scope: str) -> None:
    """Witness: found in every scope, also in capitals; let pass where the list says so, and there alone."""
    found = old_words(read_words(MADE_UP), [Text(scope, "b.md", 7, "then Frobnicate it"), Text(scope, "b.md", 8, "so")])
    assert found == ["b.md:7: 'then Frobnicate it' has /\\bfrobnicate\\b/; say act"]
    assert old_words(read_words(MADE_UP), [Text(scope, "a.md", 1, "the step `frobnicate`")]) == []
    assert old_words(read_words(MADE_UP), [Text(scope, "b.md", 1, "the step `frobnicate`")])


def test_every_kind_of_text_is_read() -> None:
    """Witness: a scope that lost its files would pass."""
    wanted = {
        ("docs", "README.md"), ("docs", "docs/gates/ledger.md"), ("plans", "plans/hospitality.toml"),
        ("plans", "plans/plan.schema.json"), ("help", "tests/docs/help.txt"), ("messages", "tasks.py"),
        ("messages", "rehearsal/postgres/locks.py"), ("messages", "fleet/passwords.py"),
        ("templates", "templates/report.html.j2"), ("sql", "sql/switchover/strategies/swap/swap.sql.j2"),
    }  # fmt: skip
    assert wanted <= {(text.scope, text.path) for text in texts()}


def test_literals_are_read_as_people_see_them() -> None:
    """Several words, put together; single words where they are shown; no docstring, and no name."""
    source = (
        'def work():\n    """Not shown."""\n    at.act("frob", key="name")\n'
        '    say(f"so {x!r} " "many")\n    y = "key"\n'
    )
    tree = ast.parse(source)
    assert list(literals(tree, docstrings_of(tree))) == [(3, "frob"), (4, "so {} many")]


def test_each_term_of_the_glossary_is_there_once_and_in_its_order() -> None:
    found = GLOSSARY.search((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert found
    terms = re.findall(r"^\| (.+?) \|", found[1], re.MULTILINE)[2:]
    assert len(terms) > 30
    assert terms == sorted(set(terms))

"""Plan files: the two that ship, and what is said about a wrong one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from rehearsal.errors import PlanError
from rehearsal.plan.file import find_plan, key_lines, load_plan, render_schema

ROOT = Path(__file__).resolve().parents[3]
PLANS = ("hospitality", "sensor_readings")


@pytest.mark.parametrize("name", PLANS)
def test_shipped_plans_load_and_exercise_every_action_both_ways(name: str) -> None:
    """Each planned table is inserted into, updated, moved and deleted from; both doors are used."""
    plan = load_plan(find_plan(name, ROOT))

    for table in plan.tables:
        actions = {operation.action for operation in plan.load.operations if operation.table == table.name}
        assert actions >= {"insert", "update", "delete", "move"}
        assert any(query.table == table.name for query in plan.queries)
        assert any(smoke.creates == table.name for smoke in plan.smoke)
    assert {(operation.action, operation.via) for operation in plan.load.operations} >= {
        (action, via) for action in ("insert", "update", "delete", "move") for via in ("sql", "http")
    }
    assert 60 <= sum(operation.rate for operation in plan.load.operations) <= 80


def test_exported_schema_is_current() -> None:
    """`python -m rehearsal.plan.file > plans/plan.schema.json` makes it anew."""
    assert (ROOT / "plans" / "plan.schema.json").read_text(encoding="utf-8") == render_schema()


CHANGED = [
    (
        'premake = 3\nretention = "24',
        'premade = 3\nretention = "24',
        r"unknown key tables\[0\].premade; did you mean premake\?",
    ),
    ("chunk_rows = 50_000", "chunk_rows = 5", r"copy.chunk_rows is 5: input should be greater than or equal to 100"),
    ('interval = "1 month"', 'interval = "monthly"', r'tables\[0\].interval is "monthly"'),
    ('strategy = "swap"', 'strategy = "swop"', r"strategy is \"swop\": input should be 'dual-write', 'swap' or"),
    ('strategy = "swap"', 'strategy = "dual-write"', r"dual-write needs \[flags\]"),
    ('marker = "source"', "", r"'insert by sql': it writes to public.sensor_readings, which has no marker"),
    ('window = "7 days"', "windows = 7", r"unknown key queries\[0\].windows; did you mean window\?"),
    ('creates = "public.sensor_readings"', 'creates = "public.sensor_reading"', "did you mean public.sensor_readings"),
    ("humidity = { kind", "humidity = { kinds", r"columns.humidity.kind is missing"),
    ('where id = %(id)s"', 'where true"', r"update needs %\(id\)s"),
    ("month = 8", "", r"uses a range; give window or month"),
    ("[load]", "[load]\nspeed = 3", r"unknown key load.speed"),
    ('table = "public.units" }', 'table = "public.unit" }', r"unit_id refers to public.unit, which is not filled"),
    ('column = "recorded_at"', 'column = "recorded"', r"follows 'recorded', which is no column"),
]


@pytest.mark.parametrize(("old", "new", "reason"), CHANGED)
def test_a_wrong_plan_is_named_by_key_and_line(tmp_path: Path, old: str, new: str, reason: str) -> None:
    """The message has the file, the line of the key, and what is right."""
    text = (ROOT / "plans" / "sensor_readings.toml").read_text(encoding="utf-8")
    assert old in text  # witness: the defect is really put in
    path = tmp_path / "sensor_readings.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(PlanError, match=reason) as caught:
        load_plan(path)

    first = str(caught.value).splitlines()[0]
    line = re.match(rf"{re.escape(str(path))}, line (\d+): ", first)
    assert line
    changed = text.replace(old, new, 1).splitlines()[int(line[1]) - 1]
    assert any(word in changed for word in (*re.findall(r"\w+", new), "[[load.operations]]", "sql")), changed


def test_unreadable_plans_are_refused(tmp_path: Path) -> None:
    """Broken TOML with its line; a plan that is not there with those that are."""
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "x"\nstrategy = swap\n')
    with pytest.raises(PlanError, match="line 2"):
        load_plan(broken)
    with pytest.raises(PlanError, match="cannot read plan"):
        load_plan(tmp_path / "none.toml")
    with pytest.raises(
        PlanError, match="hospitality, sensor_readings, sensor_readings_attach; did you mean hospitality"
    ):
        find_plan("hospitalty", ROOT)
    assert find_plan(str(broken), ROOT) == broken


def test_lines_are_found_across_texts_of_many_lines() -> None:
    """Keys within a quoted text of many lines are no keys; nested arrays are counted a parent."""
    text = 'a = """\nb = 1\n"""\n[[t]]\n[t.c]\nx = { k = 1 }\n[[t]]\n[[t.o]]\n[[t.o]]\nk = 1\n'

    assert key_lines(text) == {
        ("a",): 1,
        ("t", 0): 4,
        ("t", 0, "c"): 5,
        ("t", 0, "c", "x"): 6,
        ("t", 0, "c", "x", "k"): 6,
        ("t", 1): 7,
        ("t", 1, "o", 0): 8,
        ("t", 1, "o", 1): 9,
        ("t", 1, "o", 1, "k"): 10,
    }


HARD: dict[str, tuple[str, dict[tuple[str | int, ...], int]]] = {
    "quoted and dotted": (
        '"a.b" = 1\na.c = 2\na."=" = 3\n[x."y.z"]\nk = 1\n',
        {("a.b",): 1, ("a", "c"): 2, ("a", "="): 3, ("x", "y.z", "k"): 5},
    ),
    "an array of many lines": ('a = [\n # k = 1\n "k = 1",\n "]",\n]\nk = 1\n', {("a",): 1, ("k",): 6}),
    "a text that looks closed": ('a = """"k""\n[t]\n"]"""\nk = 1\n', {("a",): 1, ("k",): 4}),
    "an array of tables that is opened again": (
        "[[l]]\nn = 1\n[q]\nz = 1\n[[l]]\nn = 2\n",
        {("l", 0, "n"): 2, ("q", "z"): 4, ("l", 1, "n"): 6},
    ),
    "a table that is opened again": (
        "[l]\nn = 1\n[q]\n[[l.o]]\nn = 2\n",
        {("l", "n"): 2, ("q",): 3, ("l", "o", 0, "n"): 5},
    ),
    "signs that end a line elsewhere": ('a = "\u2028\x85"\nk = 1\n', {("a",): 1, ("k",): 2}),
}


@pytest.mark.parametrize("name", HARD)
def test_lines_are_found_however_toml_is_written(name: str) -> None:
    """What an editor shows as the line of a key, whatever its spelling."""
    text, wanted = HARD[name]

    lines = key_lines(text)

    assert {key: lines[key] for key in wanted} == wanted


def test_every_key_of_a_shipped_plan_stands_in_its_line() -> None:
    """The witness on real texts: each key that a plan has is found, in a line that spells it."""
    for path in sorted((ROOT / "plans").glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        lines = key_lines(text)

        assert {where[0] for where in lines} == set(tomllib.loads(text)), path
        for where, line in lines.items():
            assert str([step for step in where if isinstance(step, str)][-1]) in text.split("\n")[line - 1], (
                path,
                where,
            )


METHODS = [
    ("modulus = 4", 4, r'modulus belongs to method = "hash", and the method is range'),
    ('method = "list"', 4, "method list needs values"),
    ('method = "list"\nvalues = { a = [] }', 5, "partition a has no values"),
    ('method = "list"\nvalues = { default = [1] }', 5, "the name default is kept"),
    ('method = "list"\nvalues = { a = [1], b = ["1"] }', 5, "value '1' is in a and in b"),
    ('method = "list"\nvalues = { a = [1] }\ninterval = "1 day"', 6, 'interval belongs to method = "range"'),
    ('method = "list"\nvalues = { a = [1] }\nretention = "1 day"', 6, "partitions of a list have no age"),
    ('method = "hash"', 4, "method hash needs modulus"),
    ('method = "hash"\nmodulus = 4\ndefault_partition = true', 6, "PostgreSQL refuses a default one"),
    ('interval = "1000"\nepoch = "ms"', 4, "with epoch it must be a time"),
    ('interval = "1000"\nretention = "1 year"', 5, "an age means nothing for a key that is a number"),
]


@pytest.mark.parametrize(("text", "line", "reason"), METHODS)
def test_words_of_another_method_are_refused(tmp_path: Path, text: str, line: int, reason: str) -> None:
    """A word that would have no effect is an error, and so is one that is missing."""
    path = tmp_path / "t.toml"
    path.write_text(f'name = "t"\nstrategy = "swap"\n[[tables]]\n{text}\nname = "a.b"\nkey = "k"\n')

    with pytest.raises(PlanError, match=re.escape(f"line {line}: table a.b: ") + ".*" + reason):
        load_plan(path)


def test_a_list_and_a_hash_are_asked_for_a_key_and_not_for_a_window(tmp_path: Path) -> None:
    """A window of hashes has no meaning; one key has."""
    path = tmp_path / "t.toml"
    table = '[[tables]]\nname = "a.b"\nkey = "k"\nmethod = "hash"\nmodulus = 4\n'
    head = f'name = "t"\nstrategy = "swap"\n{table}[[queries]]\n'
    query = 'name = "q"\ntable = "a.b"\nsql = "select from {table} where k = %(key)s"\n'
    path.write_text(head + query)
    assert load_plan(path).queries[0].pruned
    path.write_text(head + query + 'window = "7 days"\n')

    with pytest.raises(PlanError, match="line 12: query 'q': a hash has no window and no month"):
        load_plan(path)

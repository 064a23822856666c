"""The first plan of a table says the same when it is read back, however the table and its columns are named."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.advisor.advise import Advice, Choice
from rehearsal.advisor.facts import Candidate, TableFacts
from rehearsal.advisor.write import render_plan
from rehearsal.catalog.findings import Finding
from rehearsal.catalog.keys import Key
from rehearsal.catalog.tables import Column, Constraint, Index, Table
from rehearsal.plan.model import Plan, TableSpec

# PostgreSQL allows any sign in a name but the zero byte; these are those that TOML or its readers treat apart.
HARD = st.sampled_from(
    [*"\"'\\#=[]{}\n\r\t\x01\x1b\x7f\x85\u2028\ufeff é%.,", '"""', "'''", "\\u0041", "= 1\n[load]\n"]
)
NAMES = st.lists(HARD | st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1).map("".join)
# What a plan may call a table and a key: white space at the ends is cut off there, and a table has no line break.
TRIMMED = NAMES.map(str.strip).filter(bool)
TABLES = TRIMMED.filter(lambda name: not {".", "\n"}.intersection(name))


@settings(max_examples=50, deadline=None)
@given(table=TABLES, key=TRIMMED, marker=NAMES, value=TRIMMED)
def test_a_plan_reads_back_as_it_was_advised(table: str, key: str, marker: str, value: str) -> None:
    """A list, with values and a marker: each text is what it was, and nothing else is in the plan."""
    spec = TableSpec(name=f"public.{table}", key=key, method="list", values={value: [value, 7]}, default_partition=True)

    read = tomllib.loads(render_plan(advice(spec, marker), value, [hostile_finding(value)]))

    assert read["tables"] == [
        {
            "name": spec.name,
            "key": key,
            "method": "list",
            "values": {value: [value, 7]},
            "default_partition": True,
            **({"marker": marker} if marker != key else {}),
        }
    ]
    assert set(read) == {"name", "title", "strategy", "tables", "queries"}
    assert (read["name"], read["title"]) == (value, f"{spec.name} by {key}")
    assert read["queries"][0]["table"] == spec.name


@settings(max_examples=50, deadline=None)
@given(name=TABLES, key=TRIMMED)
def test_what_is_left_to_decide_can_be_taken_over(name: str, key: str) -> None:
    """Without the sign of a comment, the words for indexes and foreign keys are the plan's, and name what they name."""
    spec = TableSpec(name=f"public.{name}", key=key)
    text = render_plan(advice(spec, name, decide=name + "_x"), "t", [])

    read = tomllib.loads(re.sub(r"^# (?=uniques = |references = )", "", text, flags=re.MULTILINE))

    decided = Plan.model_validate(read).tables[0]
    assert decided.uniques == {name + "_x": "add-key"}
    assert decided.references == {name + "_x": "composite"}


# ---- a table that is nowhere -------------------------------------------------------------------------------------


def advice(spec: TableSpec, marker: str, decide: str = "") -> Advice:
    """Return advice for a table with one text column; `decide` names a unique index and a foreign key."""
    table = plain_table(marker, decide)
    facts = TableFacts(table, rows=1, bytes=1, index_bytes=1, writes={"inserted": 1}, candidates=(), sample=None)
    key = Key(spec, "timestamptz", "timestamptz", can_list=True, can_hash=True, is_deterministic=True)
    candidate = Candidate(
        key,
        not_null=True,
        null_fraction=0,
        distinct=None,
        correlation=None,
        common=(),
        is_indexed=True,
        in_primary=True,
        oldest=None,
        newest=None,
    )
    choices = (Choice(spec, candidate, 1, (f"is {spec.key}",)),) * 2
    return Advice(facts, choices, "swap", (f"because of {spec.key}",), None, 1)


def plain_table(marker: str, decide: str) -> Table:
    """Return a table as the catalog would describe it."""
    column = Column(
        marker,
        marker,
        "text",
        not_null=False,
        default_sql=None,
        generated="",
        identity="",
        type_name="text",
        type_kind="b",
        sequence=None,
    )
    nothing: dict[str, Any] = dict.fromkeys(("acl", "comment", "partition_key"))
    return Table(
        oid=1,
        name=("public", "t"),
        kind="r",
        owner="o",
        options=(),
        row_security=False,
        replica_identity="d",
        persistence="p",
        pages=1,
        estimated_rows=1,
        columns=(column,),
        indexes=(unique_index(decide),) if decide else (),
        constraints=(reference(decide),) if decide else (),
        partitions=(),
        triggers=(),
        **nothing,
    )


def unique_index(name: str) -> Index:
    """Return a unique index on a column that is not the key."""
    return Index(
        name=name,
        definition="",
        is_unique=True,
        is_primary=False,
        is_valid=True,
        method="btree",
        constraint_name=None,
        constraint_sql=None,
        key_columns=(),
        has_expressions=False,
        is_attached=False,
        tail="",
        predicate=None,
        included=(),
        options=(),
        tablespace=None,
        deferrable="",
    )


def reference(name: str) -> Constraint:
    """Return a foreign key of another table on this one."""
    other = ("public", "u")
    return Constraint(name, "f", "", is_validated=True, is_inherited=False, is_own=False, other=other)


def hostile_finding(text: str) -> Finding:
    """Return a blocker whose words hold a text."""
    return Finding("id", "blocker", text, text, text, text)

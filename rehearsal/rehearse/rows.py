"""Production-like rows, made and looked at: for the phase `data` and for `db.data`."""

from __future__ import annotations

from rehearsal.evidence.data import Grid, Listed
from rehearsal.evidence.events import Progress
from rehearsal.rehearse.context import Context, require_mark
from rehearsal.synthetic.rows import check_distribution, make_data


def make_rows(context: Context) -> None:
    """Make production-like rows on throwaway environments; count the months everywhere."""
    run, plan = context.run, context.plan

    def tell(table: str, done: int, total: int) -> None:
        run.progress(Progress(f"rows of {table}", done, total, "rows"))

    with context.session("data") as conn:
        require_mark(context, conn)
        if context.env.is_throwaway:
            # Rows end at the day the run began, so that a resumed run makes the same ones.
            scale, anchor = context.scale, run.began.date()
            for made in make_data(conn, plan, scale=scale, anchor=anchor, on_progress=tell):
                pace = f"{made.rows_per_second:,.0f} a second" if made.made else "already existed"
                run.note(f"{made.table}: {made.rows:,} rows, {pace}")
        months = check_distribution(conn, plan, scale=context.scale)
    for table in sorted({month.table for month in months}):
        of_table = [month for month in months if month.table == table]
        bad = [month for month in of_table if not month.passed]
        run.record(
            "data-distribution",
            table,
            not bad,
            f"{len(of_table)} months, {len(bad)} outside their limits" + (f"; first {bad[0]}" if bad else ""),
            Listed(Grid.of(("month", "rows"), [(str(month.month), month.rows) for month in of_table])),
        )

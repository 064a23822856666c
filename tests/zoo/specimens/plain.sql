-- name = "public.plain"
-- key = "made_at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table plain (
    id bigserial primary key,
    made_at timestamptz not null,
    note text default 'none' check (length(note) < 100),
    amount numeric(10, 2)
);
create index plain_note on plain (note) where amount > 0;
comment on table plain is 'The plainest of all';
comment on column plain.note is 'It''s a note';
insert into plain (made_at, note, amount)
select '2026-02-01'::timestamptz + n * interval '3 hours', 'note ' || n, n from generate_series(1, 400) as n;
-- # writes
insert into :table (made_at, note, amount)
select '2026-03-02'::timestamptz + n * interval '1 hour', 'round :round', n from generate_series(1, 20) as n;
update :table set note = note || '!' where id % 50 = :round;
update :table set made_at = made_at + interval '30 days' where id % 70 = :round and made_at < '2026-02-20';
delete from :table where id % 60 = :round;

-- name = "public.empty"
-- key = "at"
-- strategies = ["swap", "dual-write"]
-- # setup
create table empty (id bigint generated always as identity primary key, at timestamptz not null);
-- # writes
insert into :table (at) values ('2026-03-02');

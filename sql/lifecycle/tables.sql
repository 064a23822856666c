-- Policies of partitioned tables, what was detached, and the history of both, in schema rehearsal
-- lock: none on tables of the application
-- second run: changes nothing
create table if not exists rehearsal.lifecycle_policy (
    parent regclass primary key,
    plan text not null,
    every text not null check (every ~ '^[1-9][0-9]*( (day|week|month|year)s?)?$'),
    retention text check (retention ~ '^[1-9][0-9]*( (day|week|month|year)s?)?$'),
    premake integer not null check (premake between 1 and 400),
    hold interval not null default '7 days' check (hold >= '0'),
    most integer not null default 3 check (most > 0),
    zone text not null default 'UTC',
    epoch text check (epoch in ('s', 'ms', 'us')),
    adopted_at timestamptz not null default now(),
    adopted_by text not null default session_user
);
alter table rehearsal.lifecycle_policy add column if not exists archive boolean not null default false;
comment on table rehearsal.lifecycle_policy is
    'One row a partitioned table whose leaves are made and dropped by lifecycle.premake and lifecycle.retain';

create table if not exists rehearsal.lifecycle_detached (
    leaf_oid oid primary key,
    leaf text not null,
    parent regclass not null,
    lower text,
    upper text,
    checks name[] not null,
    state text not null check (state in ('detaching', 'refused', 'held', 'dropped')),
    since timestamptz not null,
    hold interval not null,
    system_identifier bigint not null,
    row_version text
);
comment on table rehearsal.lifecycle_detached is
    'Leaves that retention took off their table; held until since + hold, then dropped; checks: those that the leaf had '
    'before, since DETACH CONCURRENTLY adds one; row_version: xmin of its row in pg_class once it was detached, which every ALTER, '
    'ATTACH and DETACH changes';

create table if not exists rehearsal.lifecycle_archived (
    leaf_oid oid primary key,
    leaf text not null,
    parent text not null,
    lower text,
    upper text,
    rows bigint not null,
    digest text not null,
    manifest text not null,
    manifest_sha256 text not null,
    sha256 text not null,
    closing text not null,
    row_version text not null,
    archived_at timestamptz not null,
    archived_by text not null default session_user
);
-- NULL where a version before noted it: then it is found by name.
alter table rehearsal.lifecycle_archived add column if not exists parent_oid oid;
comment on table rehearsal.lifecycle_archived is
    'Archives that were read back and compared with their leaf: where the manifest is, the SHA-256 of it and of its Parquet file; kept '
    'after the drop. closing, row_version: what closed the leaf to writers, and its row in pg_class, so that a leaf that was opened '
    'or altered since counts as not archived';

create table if not exists rehearsal.lifecycle_history (
    id bigint generated always as identity primary key,
    parent text not null,
    act text not null,
    leaf text,
    leaf_oid oid,
    lower text,
    upper text,
    said text,
    at timestamptz not null,
    by text not null default session_user
);
create index if not exists lifecycle_history_last on rehearsal.lifecycle_history (parent, act, at);
comment on table rehearsal.lifecycle_history is 'Every act of lifecycle, written in the transaction of the act; rows are only added';

create table if not exists rehearsal.lifecycle_code (
    only_one boolean primary key default true check (only_one),
    checksum text not null,
    installed_at timestamptz not null default now(),
    installed_by text not null default session_user
);
comment on table rehearsal.lifecycle_code is 'Which version of the lifecycle functions is installed: the SHA-256 of their text';

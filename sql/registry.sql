-- Registry and state of pg-rehearsal: what was applied, how far each table is, what each run did
-- lock: none on tables of the application
-- second run: changes nothing
create schema if not exists rehearsal;
comment on schema rehearsal is 'State of pg-rehearsal: registry of changes, progress of migrations, change logs';

create table if not exists rehearsal.environment_mark (
    only_one boolean primary key default true check (only_one),
    kind text not null check (kind in ('local', 'docker', 'staging', 'production')),
    marked_at timestamptz not null default now(),
    marked_by text not null default current_user
);
comment on table rehearsal.environment_mark is
    'Kind of environment that this database belongs to; must equal the kind of the inventory before any write';

create table if not exists rehearsal.change (
    name text primary key,
    checksum text not null,
    body text not null,
    applied_at timestamptz not null default now(),
    applied_by text not null default current_user
);
comment on table rehearsal.change is
    'Applied changes; the row commits in one transaction with the change; checksum is the SHA-256 of body';

create table if not exists rehearsal.run (
    name text primary key,
    plan text not null,
    environment text not null,
    fingerprint text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    verdict text
);
comment on table rehearsal.run is 'Rehearsals and production runs on this database';

create table if not exists rehearsal.phase (
    run text not null references rehearsal.run,
    name text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (run, name)
);
comment on table rehearsal.phase is 'Phases of each run; a phase without finished_at is repeated by --resume';

create table if not exists rehearsal.migration (
    source text primary key,
    id integer generated always as identity unique,
    plan text not null,
    strategy text not null,
    state text not null,
    changed_at timestamptz not null default now(),
    detail jsonb not null default '{}'
);
comment on table rehearsal.migration is
    'One row a table that changes shape; state is written in the same transaction as the work that reaches it';

create table if not exists rehearsal.chunk (
    migration integer not null references rehearsal.migration (id) on delete cascade,
    number bigint not null,
    lower_block bigint not null,
    upper_block bigint not null,
    done_at timestamptz,
    rows bigint,
    duration_ms double precision,
    bytes bigint,
    primary key (migration, number)
);
-- Short chunks are many; the next one must not be looked for among those that are done.
create index if not exists chunk_todo on rehearsal.chunk (migration, number) where done_at is null;
comment on table rehearsal.chunk is
    'Ledger of the copy: blocks [lower_block, upper_block) of the source; done_at commits with the copied rows; a chunk '
    'that is too large is split, its number is its first block';
do $$
begin
    -- A registry of an earlier version: numbers were counted, and bytes were not kept.
    if not exists (
        select from pg_catalog.pg_attribute where attrelid = 'rehearsal.chunk'::regclass and attname = 'bytes'
    ) then
        alter table rehearsal.chunk add column bytes bigint, alter column number type bigint;
    end if;
end
$$;

create table if not exists rehearsal.pause (
    plan text primary key,
    paused_at timestamptz not null default now(),
    paused_by text not null default current_user,
    reason text not null default ''
);
comment on table rehearsal.pause is
    'Plans whose copies and index builds wait: no new chunk begins while the row is there; survives restarts';

create table if not exists rehearsal.step (
    migration integer not null references rehearsal.migration (id) on delete cascade,
    name text not null,
    done_at timestamptz not null default now(),
    duration_ms double precision,
    detail jsonb not null default '{}',
    primary key (migration, name)
);
comment on table rehearsal.step is 'Steps that are done, one row each, written in the same transaction as the step';

create table if not exists rehearsal.approval (
    id bigint generated always as identity primary key,
    plan text not null,
    verb text not null,
    run text not null,
    opened_at timestamptz not null default now(),
    opened_by text not null,
    role text not null default session_user,
    fingerprint text not null,
    approved text,
    rehearsed_as text,
    kind text,
    verdict text,
    signed_by text,
    signed_at text,
    warning text,
    emergency text,
    check (rehearsed_as is not null or emergency is not null)
);
comment on table rehearsal.approval is
    'What let each verb change production: the signed GO (approved is its fingerprint, fingerprint what was at work), or '
    'the reason of an emergency; rows are only added';

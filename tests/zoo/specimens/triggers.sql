-- name = "public.accounts"
-- key = "opened_at"
-- # setup
create table audit (seq bigserial, trigger_name text, operation text, id bigint);
create function audit() returns trigger language plpgsql as $$
begin
    insert into public.audit (trigger_name, operation, id) values (tg_name, tg_op, coalesce(new.id, old.id));
    return coalesce(new, old);
end $$;
create function stamp() returns trigger language plpgsql as $$ begin new.version := coalesce(new.version, 0) + 1; return new; end $$;
create function told() returns trigger language plpgsql as $$ begin insert into public.audit (trigger_name, operation) values (tg_name, tg_op); return null; end $$;
create table accounts (id bigserial primary key, opened_at timestamptz not null, balance numeric, version int);
create trigger "Audit ON public.accounts" after insert or delete or update of balance, version on accounts for each row execute function audit('an arg', 'it''s');
create trigger stamp before insert or update on accounts for each row when (pg_trigger_depth() = 0) execute function stamp();
create trigger "statement level" after insert on accounts referencing new table as fresh for each statement execute function told();
create trigger off before delete on accounts for each row execute function audit();
create trigger on_replica after insert on accounts for each row execute function audit();
create trigger on_any after insert on accounts for each row execute function audit();
create constraint trigger later after insert on accounts deferrable initially deferred for each row when (new.balance > 5) execute function audit();
alter table accounts disable trigger off;
alter table accounts enable replica trigger on_replica;
alter table accounts enable always trigger on_any;
comment on trigger stamp on accounts is 'Counts writes';
insert into accounts (opened_at, balance) select '2026-02-01'::timestamptz + n * interval '3 hours', n from generate_series(1, 250) as n;
-- # writes
insert into :table (opened_at, balance) select '2026-03-01', n from generate_series(1, 10) as n;
update :table set balance = balance + 1 where id % 20 = :round;
delete from :table where id % 35 = :round;
-- # holds
select (select count(*) from public.audit where trigger_name = 'on_any') = (select last_value from public.accounts_id_seq);
select (select count(*) from public.audit where trigger_name = 'later') = (select count(*) from public.audit where trigger_name = 'on_any') - 5 - 5 * (select count(*) filter (where operation = 'INSERT') - 1 from public.audit where trigger_name = 'statement level');
select not exists (select from public.audit where trigger_name in ('off', 'on_replica'));
select (select max(version) from public.accounts) < 20

-- Bounds of partitions as numbers on one line, so that they can be compared and stepped: functions of schema rehearsal
-- lock: none on tables of the application
-- second run: replaces the functions by themselves
--
-- A place is microseconds since 1970 in UTC for keys that tell the time, and the number itself for keys that count.
-- NULL is no limit. Months and days are those of the policy's time zone.

-- The one door of "now": everything that lifecycle decides goes through it.
create or replace function rehearsal.lifecycle_now() returns timestamptz
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select clock_timestamp() $$;

create or replace function rehearsal.lifecycle_place(moment timestamptz) returns numeric
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select extract(epoch from moment) * 1000000 $$;

create or replace function rehearsal.lifecycle_moment(place numeric) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
    -- In days and microseconds apart: one double would lose microseconds of far years.
    select timestamptz 'epoch' + floor(place / 86400000000)::int * interval '1 day'
           + (place - floor(place / 86400000000) * 86400000000)::double precision * interval '1 microsecond'
$$;

-- The place of a bound as the catalog writes it; `base` is the key's type below all domains.
create or replace function rehearsal.lifecycle_place_of(base text, epoch text, bound text) returns numeric
language sql stable
return case
    when bound in ('infinity', '-infinity') then null
    when base = 'uuid' then ('x' || left(replace(bound, '-', ''), 12))::bit(48)::bigint * 1000::numeric
    when base in ('int2', 'int4', 'int8') then bound::numeric * case epoch when 's' then 1000000 when 'ms' then 1000 else 1 end
    -- Those without a zone are in UTC, whatever the session's is.
    else extract(epoch from (bound || case base when 'timestamptz' then '' else ' +00' end)::timestamptz) * 1000000
end;

-- A place as a bound of the key's own type; NULL where the type ends before it, which is MINVALUE or MAXVALUE.
create or replace function rehearsal.lifecycle_bound(base text, epoch text, place numeric) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, MDY'
as $$
declare
    number numeric := div(place, case epoch when 's' then 1000000 when 'ms' then 1000 else 1 end);
    most numeric := case base when 'int2' then 32767 when 'int4' then 2147483647 when 'int8' then 9223372036854775807 end;
begin
    if base = 'uuid' then
        return regexp_replace(rpad(lpad(to_hex(div(place, 1000)::bigint), 12, '0'), 32, '0'),
                              '^(.{8})(.{4})(.{4})(.{4})(.{12})$', '\1-\2-\3-\4-\5');
    elsif most is not null then
        return case when number between -most - 1 and most then number::text end;
    elsif base = 'date' then
        return (rehearsal.lifecycle_moment(place) at time zone 'UTC')::date::text;
    elsif base = 'timestamp' then
        return (rehearsal.lifecycle_moment(place) at time zone 'UTC')::text;
    end if;
    return rehearsal.lifecycle_moment(place)::text;
end
$$;

-- The place so many periods later (before, if negative). `zone` NULL: the key counts, and `every` is a number.
create or replace function rehearsal.lifecycle_step(place numeric, every text, periods integer, zone text) returns numeric
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
    select case when zone is null then place + periods * every::numeric
           else rehearsal.lifecycle_place(
               ((rehearsal.lifecycle_moment(place) at time zone zone) + periods * every::interval) at time zone zone)
           end
$$;

-- The start of the period that holds a place: calendar months from January, weeks from Monday, days from 1970.
create or replace function rehearsal.lifecycle_floor(place numeric, every text, zone text) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    wide interval; here timestamp; months integer; days integer; number integer;
begin
    if zone is null then
        return floor(place / every::numeric) * every::numeric;
    end if;
    wide := every::interval;
    here := rehearsal.lifecycle_moment(place) at time zone zone;
    months := extract(year from wide) * 12 + extract(month from wide);
    if months > 0 then
        number := floor((extract(year from here) * 12 + extract(month from here) - 1) / months) * months;
        here := make_timestamp(number / 12, number % 12 + 1, 1, 0, 0, 0);
    else
        days := extract(day from wide);
        number := here::date - case when days % 7 = 0 then date '1970-01-05' else date '1970-01-01' end;
        here := here::date - ((number % days) + days) % days;
    end if;
    return rehearsal.lifecycle_place(here at time zone zone);
end
$$;

-- The end of a leaf's name: y2026, y2026m02, y2026m02d03, from_1000, from_minus_1000.
create or replace function rehearsal.lifecycle_suffix(place numeric, every text, zone text) returns text
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
    select case when zone is null then case when place < 0 then 'from_minus_' || trunc(-place) else 'from_' || trunc(place) end
           else to_char(rehearsal.lifecycle_moment(place) at time zone zone,
                        case when every ~ '(day|week)' then '"y"YYYY"m"MM"d"DD'
                             when every ~ 'month' and extract(month from every::interval) > 0 then '"y"YYYY"m"MM' else '"y"YYYY' end)
           end
$$;

-- A table's name and a suffix within the 63 bytes of a name; what is cut off is replaced by a hash of the whole.
create or replace function rehearsal.lifecycle_fit(base text, suffix text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    whole text := base || suffix;
    tag text := '_' || left(encode(sha256(convert_to(whole, 'UTF8')), 'hex'), 8);
    short text := base;
begin
    if octet_length(convert_to(whole, 'UTF8')) <= 63 then
        return whole;
    end if;
    while octet_length(convert_to(short || tag || suffix, 'UTF8')) > 63 loop
        short := left(short, -1);
    end loop;
    return short || tag || suffix;
end
$$;

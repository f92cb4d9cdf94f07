-- The wire log takes the place of the rejected frames, whose rows it takes over: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

create table lab.wire_log (
    id uuid not null,
    organization_id uuid not null,
    link_id uuid not null,
    connection_id uuid not null,
    peer text default '' not null,
    began_at timestamptz not null,
    ended_at timestamptz not null,
    bytes integer not null,
    events bytea not null,
    constraint wire_log_pkey primary key (id),
    constraint wire_log_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint wire_log_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
);
create index wire_log_link_id_ended_at_idx on lab.wire_log (link_id, ended_at);

-- The owner is held to the policies too, and here acts for every organization.
alter table lab.rejected_frame no force row level security;

-- Each as a piece of log of its own: the form's version, the instant, "came" with the bytes, "refused" with the reason
-- and their number. A number takes two groups of 7 bits; refused bytes were kept up to 4096, reasons are words.
insert into lab.wire_log (id, organization_id, link_id, connection_id, began_at, ended_at, bytes, events)
select id, organization_id, link_id, id, received_at, received_at, octet_length(events), events
from (
    select r.*, '\x01'::bytea || int8send((extract(epoch from received_at) * 1000000)::bigint)
        || '\x0000'::bytea || size || r.bytes
        || '\x1200'::bytea || set_byte('\x00'::bytea, 0, octet_length(convert_to(left(reason, 40), 'UTF8')))
        || convert_to(left(reason, 40), 'UTF8') || size as events
    from (
        select *, set_byte('\x80'::bytea, 0, 128 + (octet_length(bytes) & 127))
            || set_byte('\x00'::bytea, 0, octet_length(bytes) >> 7) as size
        from lab.rejected_frame where octet_length(bytes) < 16384
    ) r
) e;

drop table lab.rejected_frame;

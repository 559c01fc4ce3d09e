create temporary table staged_response (
    line              bigint not null,
    "row"             text not null, -- as it stands in the file, for the rejects
    order_external_id text,
    email_key         text,
    answered_at       timestamptz not null,
    answered_by       timestamptz not null, -- the end of the day, where the file says no time of it
    external_id       text,
    display_name      text,
    consent_version   text,
    answers           jsonb not null, -- question key = number or text
    order_id          bigint,
    locale            text,
    erased            boolean,
    response_id       bigint,
    invited           boolean, -- whether the order has an invitation, so that the page may be asked about it
    revision          int
) on commit drop;

create temporary table staged_answer (
    response_id bigint not null,
    question    text not null,
    score       smallint,
    choice      text,
    body        text
) on commit drop;

set local work_mem = '64MB';

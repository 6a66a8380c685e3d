-- The outbound queue: rows that relay processes lease with FOR UPDATE SKIP LOCKED.

CREATE TABLE outbound_message (
    outbound_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenant,
    account_id    bigint REFERENCES account ON DELETE SET NULL, -- who sent it; NULL: ourselves (bounces, reports)
    content_id    bigint NOT NULL REFERENCES content,
    trace_id      uuid NOT NULL DEFAULT gen_random_uuid(),
    reverse_path  text NOT NULL,                -- '': the null reverse-path
    envid         text,                         -- RFC 3461 §4.4
    ret           text CHECK (ret IN ('FULL', 'HDRS')),
    is_smtputf8   boolean NOT NULL DEFAULT false,
    is_requiretls boolean NOT NULL DEFAULT false,
    is_8bit       boolean NOT NULL DEFAULT false,
    priority      smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9), -- RFC 6710 §4.1
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL
);
CREATE INDEX outbound_message_tenant ON outbound_message (tenant_id);
CREATE INDEX outbound_message_account ON outbound_message (account_id);
CREATE INDEX outbound_message_content ON outbound_message (content_id);

-- A lease is a next_attempt_at in the future: one of a dead process returns by time, without anybody noticing the death.
CREATE TABLE outbound_recipient (
    recipient_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbound_id     bigint NOT NULL REFERENCES outbound_message ON DELETE CASCADE,
    tenant_id       bigint NOT NULL REFERENCES tenant,
    forward_path    text NOT NULL,
    domain          text NOT NULL,              -- the destination that concurrency and back-off are kept by
    notify          text,                       -- RFC 3461 §4.1
    orcpt           text,                       -- RFC 3461 §4.2
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'held', 'delivered', 'failed', 'deleted')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    leased_by       text,                       -- host and process, for people; NULL: not leased
    last_reply      text,                       -- the remote server's own words
    delay_told_at   timestamptz,                -- when the sender was told of the delay
    finished_at     timestamptz
);
CREATE INDEX outbound_recipient_due ON outbound_recipient (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX outbound_recipient_outbound ON outbound_recipient (outbound_id);
CREATE INDEX outbound_recipient_tenant ON outbound_recipient (tenant_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON outbound_message, outbound_recipient TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;

-- Messages kept from their recipients until somebody decides, and notifications that go out by HTTP.

-- ---------------------------------------------------------------- quarantine

CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id    bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    content_id    bigint NOT NULL REFERENCES content,
    reason        text NOT NULL,
    reverse_path  text NOT NULL,                -- '': the null reverse-path
    forward_path  text NOT NULL,
    trace_id      text NOT NULL CHECK (trace_id ~ '^[0-9a-f]{16}$'),
    received_at   timestamptz NOT NULL,
    told_at       timestamptz                   -- NULL: the owner has not been told yet
);
CREATE INDEX quarantine_content ON quarantine (content_id);
CREATE INDEX quarantine_account ON quarantine (account_id, quarantine_id);
CREATE INDEX quarantine_tenant ON quarantine (tenant_id, received_at);
CREATE INDEX quarantine_untold ON quarantine (account_id) WHERE told_at IS NULL;
GRANT SELECT, INSERT, UPDATE, DELETE ON quarantine TO postwerk_daemon;

-- What a tenant wants. NULL: as configured.
ALTER TABLE tenant
    ADD quarantine_junk text[],                 -- filters whose quarantine is the Junk mailbox
    ADD quarantine_days integer CHECK (quarantine_days > 0),
    ADD quarantine_notice_seconds integer CHECK (quarantine_notice_seconds >= 0); -- 0: nobody is told
ALTER TABLE account ADD quarantine_told_at timestamptz; -- when its owner was told last

-- ---------------------------------------------------------------- notifications

-- What goes out by HTTP. A lease is a next attempt in the future: who dies over one loses no more than that time.
CREATE TABLE notification (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id      bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('web', 'sms')),
    target          text NOT NULL,              -- a URL, or a telephone number
    facts           text,                       -- JSON: what the templates are filled with; NULL: it is over
    parts           smallint NOT NULL DEFAULT 1, -- of an SMS: what it is charged by
    trace_id        text NOT NULL CHECK (trace_id ~ '^[0-9a-f]{16}$'),
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
    attempts        integer NOT NULL DEFAULT 0, -- the fence: whoever settles names the one that is his
    last_reply      text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
);
CREATE INDEX notification_due ON notification (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX notification_account ON notification (account_id);
CREATE INDEX notification_tenant ON notification (tenant_id);
CREATE INDEX notification_finished ON notification (finished_at) WHERE finished_at IS NOT NULL;

-- What an account caused in a day, and what it cost. It outlives the account: bills are written later.
CREATE TABLE notification_count (
    tenant_id  bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    account_id bigint NOT NULL,
    login      text NOT NULL,
    day        date NOT NULL,                   -- UTC
    kind       text NOT NULL CHECK (kind IN ('mail', 'web', 'sms')),
    queued     integer NOT NULL DEFAULT 0,
    sent       integer NOT NULL DEFAULT 0,
    parts      integer NOT NULL DEFAULT 0,      -- of what was sent
    cost       bigint NOT NULL DEFAULT 0,       -- thousandths of the unit of currency
    PRIMARY KEY (account_id, day, kind)
);
CREATE INDEX notification_count_tenant ON notification_count (tenant_id, day);

-- Only accounts that differ from the configuration have rows.
CREATE TABLE notification_limit (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('mail', 'web', 'sms')),
    per_day    integer NOT NULL CHECK (per_day >= 0),
    PRIMARY KEY (account_id, kind)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON notification, notification_count TO postwerk_daemon;
GRANT SELECT ON notification_limit TO postwerk_daemon;

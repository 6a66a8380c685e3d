-- What others report about tenants' domains and mail: DMARC aggregate reports, TLS reports and bounces, read out of the mailboxes that
-- report addresses deliver to. Where the mail lies is not referred to: it may be deleted by whoever reads that mailbox.

CREATE TABLE report_source (
    mailbox_id   bigint PRIMARY KEY REFERENCES mailbox ON DELETE CASCADE,
    tenant_id    bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    next_uid     bigint NOT NULL DEFAULT 1,     -- the first message that was not looked at
    leased_until timestamptz NOT NULL DEFAULT '-infinity', -- a process that dies over it leaves it to another one
    taken        bigint NOT NULL DEFAULT 0,     -- reports and bounces found so far
    unreadable   bigint NOT NULL DEFAULT 0      -- what looked like a report and was none that can be read
);

CREATE TABLE dmarc_report (
    dmarc_report_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id        bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    domain           text NOT NULL,             -- whose policy it is; as the report says, so not always the tenant's
    organization     text NOT NULL,
    email            text NOT NULL,
    report_id        text NOT NULL,
    begins_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL,
    policy           text NOT NULL,
    subdomain_policy text NOT NULL,
    adkim            text NOT NULL,
    aspf             text NOT NULL,
    percent          integer,
    is_test          boolean NOT NULL,
    errors           text[] NOT NULL,
    messages         bigint NOT NULL,           -- all of dmarc_source together
    passed           bigint NOT NULL,
    received_at      timestamptz NOT NULL,
    UNIQUE (tenant_id, domain, organization, report_id, begins_at) -- sent twice, it counts once
);
CREATE INDEX dmarc_report_listed ON dmarc_report (tenant_id, ends_at);
CREATE INDEX dmarc_report_received ON dmarc_report (received_at);

CREATE TABLE dmarc_source (
    dmarc_report_id bigint NOT NULL REFERENCES dmarc_report ON DELETE CASCADE,
    ordinal         integer NOT NULL,
    address         inet,                       -- NULL: none that could be read
    messages        bigint NOT NULL,
    disposition     text NOT NULL,
    dkim            text NOT NULL,              -- aligned
    spf             text NOT NULL,
    header_from     text NOT NULL,
    envelope_from   text NOT NULL,
    envelope_to     text NOT NULL,
    details         jsonb NOT NULL,             -- reasons, and results before alignment
    PRIMARY KEY (dmarc_report_id, ordinal)
);

CREATE TABLE tls_report (                       -- one policy of one report
    tls_report_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    domain         text NOT NULL,
    organization   text NOT NULL,
    contact        text NOT NULL,
    report_id      text NOT NULL,
    ordinal        integer NOT NULL,            -- of the policy in its report
    begins_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    policy_type    text NOT NULL,
    policy_strings text[] NOT NULL,
    mx_hosts       text[] NOT NULL,
    successes      bigint NOT NULL,
    failures       bigint NOT NULL,
    received_at    timestamptz NOT NULL,
    UNIQUE (tenant_id, organization, report_id, begins_at, ordinal)
);
CREATE INDEX tls_report_listed ON tls_report (tenant_id, ends_at);
CREATE INDEX tls_report_received ON tls_report (received_at);

CREATE TABLE tls_failure (
    tls_report_id bigint NOT NULL REFERENCES tls_report ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    result_type   text NOT NULL,
    sessions      bigint NOT NULL,
    source        inet,
    host          text NOT NULL,                -- ours, as the other side knows it
    helo          text NOT NULL,
    address       inet,
    information   text NOT NULL,
    reason        text NOT NULL,
    PRIMARY KEY (tls_report_id, ordinal)
);

CREATE TABLE received_bounce (                  -- one recipient of one bounce or complaint
    bounce_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    kind          text NOT NULL CHECK (kind IN ('status', 'complaint')),
    address       text NOT NULL,
    action        text NOT NULL,
    status        text,                         -- class.subject.detail
    code          integer,
    reason        text NOT NULL,
    is_hard       boolean NOT NULL,
    diagnostic    text NOT NULL,
    remote_mta    text,
    message_id    text,                         -- of the message that came back
    envid         text,
    feedback_type text,
    received_at   timestamptz NOT NULL
);
CREATE INDEX received_bounce_listed ON received_bounce (tenant_id, received_at);
CREATE INDEX received_bounce_received ON received_bounce (received_at);

GRANT SELECT, UPDATE ON report_source TO postwerk_daemon;
GRANT SELECT, INSERT, DELETE ON dmarc_report, dmarc_source, tls_report, tls_failure, received_bounce TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;

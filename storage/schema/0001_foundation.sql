-- Identities, contents, mailboxes, placements and the journal (docs/design.md, "Metadata").
-- SQL floor: PostgreSQL 15. Every large table leads with tenant_id or with a key that implies it.

-- ---------------------------------------------------------------- identities

CREATE TABLE tenant (
    tenant_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL UNIQUE CHECK (name <> ''),
    wrapped_key  bytea NOT NULL,               -- the tenant's key, wrapped by the master key outside the database
    quota_octets bigint CHECK (quota_octets >= 0), -- pooled over all accounts; NULL: no limit
    language     text NOT NULL DEFAULT 'de',
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE domain (
    domain_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  bigint NOT NULL REFERENCES tenant,
    name       text NOT NULL UNIQUE CHECK (name <> '' AND name = lower(name)), -- U-labels, lower case
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX domain_tenant ON domain (tenant_id);

CREATE TABLE account (
    account_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenant,
    login         text NOT NULL UNIQUE CHECK (login = lower(login)),
    password_hash text NOT NULL,                -- argon2id, PHC string format
    quota_octets  bigint CHECK (quota_octets >= 0),
    is_disabled   boolean NOT NULL DEFAULT false,
    receives      boolean NOT NULL DEFAULT true, -- false: deactivated for reception (inactivity rule)
    last_fetch_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX account_tenant ON account (tenant_id);

CREATE TABLE address (
    address_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  bigint NOT NULL REFERENCES tenant,
    domain_id  bigint NOT NULL REFERENCES domain ON DELETE CASCADE,
    local_part text NOT NULL CHECK (local_part = lower(local_part)), -- '' is the domain's catch-all
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (domain_id, local_part)
);
CREATE INDEX address_account ON address (account_id);

-- ---------------------------------------------------------------- blobs

CREATE SEQUENCE segment_id;

CREATE TABLE segment (
    segment_id   bigint PRIMARY KEY,
    store        text NOT NULL DEFAULT 'local',
    size_octets  bigint,                        -- known when sealed
    created_at   timestamptz NOT NULL DEFAULT now(),
    sealed_at    timestamptz                    -- NULL: a process writes to it; a sealed segment never changes
);

-- One row per distinct octet string of a tenant. Deleting the row destroys the key and with it the octets in every copy of the segment.
CREATE TABLE blob (
    tenant_id     bigint NOT NULL REFERENCES tenant,
    digest        bytea NOT NULL,               -- SHA-256 of the plain octets
    segment_id    bigint NOT NULL REFERENCES segment,
    position      bigint NOT NULL,              -- of the record in the segment
    record_octets bigint NOT NULL,              -- the whole record, header included
    plain_octets  bigint NOT NULL,
    wrapped_key   bytea NOT NULL,               -- the blob's key, wrapped by the tenant's
    PRIMARY KEY (tenant_id, digest)
);
CREATE INDEX blob_segment ON blob (segment_id);

-- ---------------------------------------------------------------- contents

CREATE SEQUENCE content_block;                  -- processes take blocks of 1,024 content ids, so that ids are known before the insert

CREATE TABLE content (
    content_id     bigint PRIMARY KEY,
    tenant_id      bigint NOT NULL,
    digest         bytea NOT NULL,              -- SHA-256 of the original octets, without head
    size_octets    bigint NOT NULL,             -- head and original together
    head           bytea NOT NULL,              -- trace fields that we added
    skeleton       bytea NOT NULL,              -- the blob of the original octets less its content_part rows
    part_count     smallint NOT NULL DEFAULT 0,
    envelope       bytea NOT NULL,
    bodystructure  bytea NOT NULL,
    structure      bytea NOT NULL,
    header_cache   bytea NOT NULL,
    sent_at        timestamptz,
    message_id     bytea,
    subject        text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, skeleton) REFERENCES blob (tenant_id, digest)
);
CREATE INDEX content_skeleton ON content (tenant_id, skeleton);
-- Rows of about 2 KB stay in the page: FETCH ENVELOPE of a whole mailbox must not visit a TOAST row per message.
ALTER TABLE content SET (toast_tuple_target = 8160);
ALTER TABLE content ALTER head SET STORAGE EXTERNAL, ALTER envelope SET STORAGE EXTERNAL, ALTER bodystructure SET STORAGE EXTERNAL,
    ALTER structure SET STORAGE EXTERNAL, ALTER header_cache SET STORAGE EXTERNAL;

CREATE TABLE content_part (
    content_id   bigint NOT NULL REFERENCES content ON DELETE CASCADE,
    tenant_id    bigint NOT NULL,
    start_octet  bigint NOT NULL,               -- in the original octets
    size_octets  bigint NOT NULL,
    digest       bytea NOT NULL,
    PRIMARY KEY (content_id, start_octet),
    FOREIGN KEY (tenant_id, digest) REFERENCES blob (tenant_id, digest)
);
CREATE INDEX content_part_blob ON content_part (tenant_id, digest);

-- ---------------------------------------------------------------- mailboxes

CREATE SEQUENCE uidvalidity MINVALUE 1 MAXVALUE 4294967295; -- never given twice, whatever is renamed or recreated

-- The row lock serialises writers, so UIDs and MODSEQs become visible in ascending order (RFC 9051 §2.3.1.1, RFC 7162 §3.1).
-- Whoever locks several mailboxes does so in ascending mailbox_id.
CREATE TABLE mailbox (
    mailbox_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      bigint NOT NULL REFERENCES tenant,
    account_id     bigint NOT NULL REFERENCES account,
    name           text NOT NULL CHECK (name <> ''),
    uidvalidity    bigint NOT NULL DEFAULT nextval('uidvalidity'),
    uidnext        bigint NOT NULL DEFAULT 1,
    highestmodseq  bigint NOT NULL DEFAULT 1,
    message_count  bigint NOT NULL DEFAULT 0,
    unseen_count   bigint NOT NULL DEFAULT 0,
    size_octets    bigint NOT NULL DEFAULT 0,
    recent_uid     bigint NOT NULL DEFAULT 1,
    special_use    text,
    is_selectable  boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
) WITH (fillfactor = 50);                       -- updated with every delivery: leave room for HOT updates
CREATE INDEX mailbox_tenant ON mailbox (tenant_id);

CREATE TABLE subscription (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    name       text NOT NULL,
    PRIMARY KEY (account_id, name)
);

CREATE TABLE message (
    mailbox_id   bigint NOT NULL REFERENCES mailbox,
    uid          bigint NOT NULL,
    modseq       bigint NOT NULL,
    content_id   bigint NOT NULL REFERENCES content,
    flags        smallint NOT NULL,             -- \Seen 1, \Answered 2, \Flagged 4, \Deleted 8, \Draft 16
    keywords     text[],                        -- NULL: none
    size_octets  bigint NOT NULL,
    internaldate timestamptz NOT NULL,
    savedate     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (mailbox_id, uid)
);
CREATE INDEX message_modseq ON message (mailbox_id, modseq);
CREATE INDEX message_content ON message (content_id);

CREATE TABLE expunged (
    mailbox_id bigint NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    modseq     bigint NOT NULL,
    uid        bigint NOT NULL,
    PRIMARY KEY (mailbox_id, modseq, uid)
);

-- ---------------------------------------------------------------- journal

-- The archiver's outbox, written in the transaction that accepts a message: completeness by construction.
CREATE TABLE journal (
    journal_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    bigint NOT NULL REFERENCES tenant,
    content_id   bigint NOT NULL REFERENCES content,
    direction    text NOT NULL CHECK (direction IN ('in', 'out', 'internal')),
    envelope     bytea NOT NULL,                -- canonical JSON of the SMTP transaction
    digest       bytea NOT NULL,                -- SHA-256 of the original octets
    size_octets  bigint NOT NULL,
    accepted_at  timestamptz NOT NULL,
    archived_seq bigint                         -- the leaf's sequence number; NULL: waiting for the archiver
);
CREATE INDEX journal_waiting ON journal (journal_id) WHERE archived_seq IS NULL;
CREATE INDEX journal_content ON journal (content_id);

-- ---------------------------------------------------------------- notifications

-- Caches of identities in the daemons are dropped when any of these change.
CREATE FUNCTION notify_directory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postwerk_directory', '');
    RETURN NULL;
END $$;

CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON tenant FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON domain FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();
CREATE TRIGGER directory_changed AFTER INSERT OR DELETE OR UPDATE OF login, password_hash, quota_octets, is_disabled, receives
    ON account FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON address FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

-- ---------------------------------------------------------------- the daemons' role

-- Daemons work under this role, never as the owner: what it is not granted, no bug of theirs can do.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postwerk_daemon') THEN
        CREATE ROLE postwerk_daemon NOLOGIN;
    END IF;
END $$;

GRANT USAGE ON SCHEMA public TO postwerk_daemon;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant, domain, account, address, segment, blob, content, content_part, mailbox,
    subscription, message, expunged TO postwerk_daemon;
GRANT SELECT, INSERT ON journal TO postwerk_daemon;
GRANT UPDATE (archived_seq) ON journal TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;

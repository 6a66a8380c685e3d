-- The evidence log: per tenant one RFC 9162 Merkle log, what its leaves commit to, and its signed checkpoints.
-- Append-only twice over: the daemons' role is not granted anything else, and triggers refuse everyone.

-- Every key that ever signed here. For reading only: verification trusts the key files outside the database.
CREATE TABLE archive_key (
    public_key    bytea PRIMARY KEY CHECK (octet_length(public_key) = 32), -- Ed25519
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE archive_log (
    tenant_id  bigint PRIMARY KEY REFERENCES tenant,
    origin     text NOT NULL UNIQUE CHECK (origin ~ '^[^\s+]+$'), -- the log's name for ever, in every checkpoint and key id
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The columns are the leaf's canonical octets, field by field; no address, no digest of a message.
CREATE TABLE archive_leaf (
    tenant_id   bigint NOT NULL,                -- no foreign keys here: rows come by the hundred, under the log's lock
    seq         bigint NOT NULL CHECK (seq >= 0),
    at_ms       bigint NOT NULL,                -- UTC, milliseconds since 1970
    size_octets bigint NOT NULL,
    version     smallint NOT NULL,
    kind        smallint NOT NULL,
    class_id    integer NOT NULL,
    commitment  bytea NOT NULL CHECK (octet_length(commitment) = 32),
    leaf_hash   bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    PRIMARY KEY (tenant_id, seq)
);

-- What the commitment of a message's leaf is made of.
CREATE TABLE archive_message (
    tenant_id  bigint NOT NULL,
    seq        bigint NOT NULL,
    journal_id bigint NOT NULL UNIQUE,          -- no foreign key: a journal row that vanished must stay noticeable
    content_id bigint NOT NULL REFERENCES content,
    direction  text NOT NULL CHECK (direction IN ('in', 'out', 'internal')),
    envelope   bytea NOT NULL,
    salt       bytea NOT NULL CHECK (octet_length(salt) = 32),
    digest     bytea NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the original octets
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX archive_message_content ON archive_message (content_id);

CREATE TABLE archive_checkpoint (
    tenant_id bigint NOT NULL,
    number    bigint NOT NULL CHECK (number >= 0),
    size      bigint NOT NULL CHECK (size > 0), -- leaves covered
    note      text NOT NULL,                    -- C2SP signed note
    frontier  bytea NOT NULL,                   -- the tree's right edge at that size: the next root starts from it
    PRIMARY KEY (tenant_id, number),
    UNIQUE (tenant_id, size)
);

CREATE FUNCTION refuse_archive_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: the archive is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_message
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_archive_change();

GRANT SELECT, INSERT ON archive_key, archive_log, archive_leaf, archive_message, archive_checkpoint TO postwerk_daemon;

-- Expunges up to this MODSEQ are no longer all remembered in table expunged: a client that asks from before it gets everything.
ALTER TABLE mailbox ADD COLUMN expunged_forgotten bigint NOT NULL DEFAULT 0;

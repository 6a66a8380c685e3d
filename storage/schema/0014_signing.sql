-- DKIM keys, and keys of rewritten senders. Private keys are wrapped by the tenant's key: no backup of the database signs.

-- published: the record should be in the DNS; nothing is signed yet. active: signs. retired: signs no more, its record must stay.
-- removed: the record may go; the row stays until it has gone.
CREATE TABLE dkim_key (
    key_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    bigint NOT NULL REFERENCES tenant,
    domain_id    bigint NOT NULL REFERENCES domain ON DELETE CASCADE,
    selector     text NOT NULL CHECK (selector <> '' AND selector = lower(selector)),
    algorithm    text NOT NULL CHECK (algorithm IN ('rsa-sha256', 'ed25519-sha256')),
    state        text NOT NULL DEFAULT 'published' CHECK (state IN ('published', 'active', 'retired', 'removed')),
    public_key   bytea NOT NULL,                -- the octets of p=
    wrapped_key  bytea,                         -- PKCS #8; destroyed when it signs no more
    target       text,                          -- the name of ours that the customer's CNAME leads to; NULL: not delegated
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz,                   -- since when the record has been right in the DNS; NULL: it is not
    activated_at timestamptz,
    retired_at   timestamptz,
    UNIQUE (domain_id, selector),
    CHECK ((state IN ('published', 'active')) = (wrapped_key IS NOT NULL))
);
CREATE INDEX dkim_key_tenant ON dkim_key (tenant_id);
CREATE UNIQUE INDEX dkim_key_active ON dkim_key (domain_id, algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX dkim_key_published ON dkim_key (domain_id, algorithm) WHERE state = 'published';
CREATE TRIGGER directory_changed AFTER INSERT OR DELETE OR UPDATE OF state ON dkim_key
    FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

-- The newest signs; the others verify what they signed, until the last of it has expired.
CREATE TABLE srs_key (
    srs_key_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    wrapped_key bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX srs_key_tenant ON srs_key (tenant_id, created_at);
CREATE TRIGGER directory_changed AFTER INSERT OR DELETE ON srs_key FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

-- Senders too long to stand in a local part of 64 octets (RFC 5321 §4.5.3.1.1): the rewritten one carries a token instead.
CREATE TABLE srs_path (
    tenant_id    bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    token        text NOT NULL,
    reverse_path text NOT NULL,
    used_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, token)
);
CREATE INDEX srs_path_used ON srs_path (used_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON dkim_key, srs_key, srs_path TO postwerk_daemon;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO postwerk_daemon;

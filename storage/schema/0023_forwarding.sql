-- Addresses that forward. The local part is an address of an account, too, or of nobody else; '' is the domain's catch-all.

CREATE TABLE address_forward (
    tenant_id     bigint NOT NULL REFERENCES tenant ON DELETE CASCADE,
    domain_id     bigint NOT NULL REFERENCES domain ON DELETE CASCADE,
    local_part    text NOT NULL CHECK (local_part = lower(local_part)),
    forward_paths text[] NOT NULL CHECK (cardinality(forward_paths) > 0), -- addr-specs, local ones among them
    keeps         boolean NOT NULL,             -- the account of the address, if there is one, gets the message, too
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (domain_id, local_part)
);
CREATE INDEX address_forward_tenant ON address_forward (tenant_id);
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON address_forward
    FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

GRANT SELECT, INSERT, UPDATE, DELETE ON address_forward TO postwerk_daemon;

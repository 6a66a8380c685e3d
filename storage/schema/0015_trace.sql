-- The delivery trace: what became of each message, encrypted with a key derived from the tenant's, for a limited time.

ALTER TABLE tenant ADD trace_days integer CHECK (trace_days BETWEEN 0 AND 3650); -- NULL: as configured; 0: nothing is recorded

-- One row has what one process noted of one message at about the same time. Rows are written by the hundred and never changed.
-- No foreign key: each row would lock its tenant's row for an instant. The trigger below removes those of a removed tenant.
CREATE TABLE trace_record (
    tenant_id   bigint NOT NULL,
    trace_id    bytea NOT NULL CHECK (octet_length(trace_id) = 8),
    happened_at timestamptz NOT NULL,           -- the first note
    sealed      bytea NOT NULL                  -- nonce, ciphertext, tag
);
CREATE INDEX trace_record_trace ON trace_record (trace_id);
CREATE INDEX trace_record_time ON trace_record (tenant_id, happened_at);
ALTER TABLE trace_record ALTER sealed SET STORAGE EXTERNAL;

-- Blind index: which messages name an address, by a keyed digest of it that only the tenant's key can make. A search asks for
-- each of its days in turn, so what is written today lies together, and what is too old goes in one range.
CREATE TABLE trace_tag (
    tenant_id bigint NOT NULL,
    day       integer NOT NULL,                 -- of UTC, counted since 1970
    tag       bigint NOT NULL,
    trace_id  bytea NOT NULL,
    PRIMARY KEY (tenant_id, day, tag, trace_id)
);

CREATE FUNCTION forget_traces() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM trace_record WHERE tenant_id = OLD.tenant_id;
    DELETE FROM trace_tag WHERE tenant_id = OLD.tenant_id;
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_removed AFTER DELETE ON tenant FOR EACH ROW EXECUTE FUNCTION forget_traces();

GRANT SELECT, INSERT, DELETE ON trace_record, trace_tag TO postwerk_daemon;

-- What SEARCH runs over (docs/design.md, "IMAP model"): the decoded text of every content, as i;unicode-casemap compares it.
-- Filled behind intake's back by the indexer in the archiver. A content without a row, or with a row of another version, is
-- scanned from its blobs, so that no answer is incomplete.

CREATE TABLE search_text (
    content_id bigint PRIMARY KEY REFERENCES content ON DELETE CASCADE,
    tenant_id  bigint NOT NULL,
    version    smallint NOT NULL,              -- of what is collected and how it is written; 0: cannot be read, always scanned
    header     text COLLATE "C",               -- all fields with their names, a line each
    body       text COLLATE "C",               -- text parts, and the headers of the messages within
    words      text COLLATE "C",               -- stems for FUZZY, sections apart, those of attachments too
    preview    text,                           -- PREVIEW, as shown
    CHECK (version = 0 OR (header IS NOT NULL AND body IS NOT NULL AND words IS NOT NULL))
);

CREATE INDEX search_text_unreadable ON search_text (content_id) WHERE version = 0;

-- Where the server can: half the time to read, a little more space. The server that comes with us cannot.
DO $$ BEGIN
    ALTER TABLE search_text ALTER header SET COMPRESSION lz4, ALTER body SET COMPRESSION lz4, ALTER words SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END $$;

-- Contents that the indexer has not done, written in the transaction that stores them: nobody looks for "everything after id N",
-- since ids commit out of order. No foreign key: a row whose content is gone is dropped when its turn comes.
CREATE TABLE search_waiting (
    content_id bigint PRIMARY KEY,
    attempts   smallint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity' -- whoever works on it has it until then
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

INSERT INTO search_waiting (content_id) SELECT content_id FROM content;

GRANT SELECT, INSERT, UPDATE, DELETE ON search_text, search_waiting TO postwerk_daemon;

-- What SORT and THREAD compare: sort keys and references of each message, packed by protocol.message.sorting at intake.
-- NULL in rows that are older than this column: they are computed from header_cache when they are needed.

ALTER TABLE content ADD COLUMN sorting bytea;
ALTER TABLE content ALTER sorting SET STORAGE EXTERNAL;

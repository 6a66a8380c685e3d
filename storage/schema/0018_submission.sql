-- What submission keeps per account, and of a message.

ALTER TABLE account ADD COLUMN copies_sent boolean NOT NULL DEFAULT false; -- what it sends is stored in its Sent mailbox, too

CREATE TRIGGER directory_copies_changed AFTER UPDATE OF copies_sent
    ON account FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

ALTER TABLE outbound_message
    DROP CONSTRAINT outbound_message_deliver_by_mode_check,
    ADD CONSTRAINT outbound_message_deliver_by_mode_check CHECK (deliver_by_mode IN ('N', 'R', 'NT', 'RT')); -- RFC 2852 §4

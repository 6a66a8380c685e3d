-- What submission keeps per account.

ALTER TABLE account ADD COLUMN copies_sent boolean NOT NULL DEFAULT false; -- what it sends is stored in its Sent mailbox, too

CREATE TRIGGER directory_copies_changed AFTER UPDATE OF copies_sent
    ON account FOR EACH STATEMENT EXECUTE FUNCTION notify_directory();

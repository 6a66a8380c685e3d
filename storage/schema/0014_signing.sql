-- DKIM keys, and keys of rewritten senders.
SELECT 1; -- replace this line

-- Since 0007_sharing.sql "Other Users" and "Shared" are where others' mailboxes show. An account's own mailboxes and subscriptions
-- of these names, from before, get another root, or nobody could reach them any more.

DO $$
DECLARE
    v_own record;
    v_root text;
BEGIN
    FOR v_own IN
        SELECT DISTINCT n.account_id, n.root
          FROM (SELECT account_id, split_part(name, '/', 1) AS root FROM mailbox
                 UNION ALL
                SELECT account_id, split_part(name, '/', 1) FROM subscription) AS n
         WHERE n.root IN ('Other Users', 'Shared')
    LOOP
        v_root := v_own.root || ' (own)';
        WHILE EXISTS (SELECT FROM mailbox WHERE account_id = v_own.account_id AND split_part(name, '/', 1) = v_root)
           OR EXISTS (SELECT FROM subscription WHERE account_id = v_own.account_id AND split_part(name, '/', 1) = v_root) LOOP
            v_root := v_root || ' (own)';
        END LOOP;
        UPDATE mailbox SET name = v_root || substr(name, length(v_own.root) + 1)
         WHERE account_id = v_own.account_id AND split_part(name, '/', 1) = v_own.root;
        UPDATE subscription SET name = v_root || substr(name, length(v_own.root) + 1)
         WHERE account_id = v_own.account_id AND split_part(name, '/', 1) = v_own.root;
    END LOOP;
END $$;

ALTER TABLE mailbox ADD CHECK (split_part(name, '/', 1) NOT IN ('Other Users', 'Shared'));

"""The statements of the ingest path. Each is one round trip for a whole batch; arrays in, rows out."""

# All of a batch. The data-modifying parts see one snapshot and commit together; foreign keys are checked at the end.
# - `locked` takes the mailbox rows in ascending id, the one order in which anything of ours locks several of them.
# - A mailbox that is gone leaves uid NULL, which the NOT NULL of message.uid turns into a failure of the whole statement.
# - Only what lies in a mailbox is searched: what is just on its way out needs no text.
# - pg_notify takes 8,000 octets at most: mailbox ids go out in lists of 300.
INGEST = """
WITH new_blob AS (
    INSERT INTO blob (tenant_id, digest, segment_id, position, record_octets, plain_octets, wrapped_key)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
        ON CONFLICT DO NOTHING),
new_content AS (
    INSERT INTO content (content_id, tenant_id, digest, size_octets, head, skeleton, part_count,
                         envelope, bodystructure, structure, header_cache, sent_at, message_id, subject, sorting)
    SELECT * FROM unnest($8::bigint[], $9::bigint[], $10::bytea[], $11::bigint[], $12::bytea[], $13::bytea[], $14::smallint[],
                         $15::bytea[], $16::bytea[], $17::bytea[], $18::bytea[], $19::timestamptz[], $20::bytea[], $21::text[],
                         $40::bytea[])),
new_part AS (
    INSERT INTO content_part (content_id, tenant_id, start_octet, size_octets, digest)
    SELECT * FROM unnest($22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bytea[])),
new_waiting AS (
    INSERT INTO search_waiting (content_id) SELECT DISTINCT unnest($27::bigint[])),
new_journal AS (
    INSERT INTO journal (tenant_id, content_id, direction, envelope, digest, size_octets, accepted_at)
    SELECT * FROM unnest($33::bigint[], $34::bigint[], $35::text[], $36::bytea[], $37::bytea[], $38::bigint[], $39::timestamptz[])
    RETURNING journal_id),
placement AS MATERIALIZED (
    SELECT * FROM unnest($27::bigint[], $28::bigint[], $29::smallint[], $30::text[], $31::bigint[], $32::timestamptz[])
        WITH ORDINALITY AS p (content_id, mailbox_id, flags, keywords, size_octets, internaldate, ordinal)),
wanted AS MATERIALIZED (
    SELECT mailbox_id, count(*) AS messages, count(*) FILTER (WHERE flags & 1 = 0) AS unseen, sum(size_octets) AS octets
      FROM placement GROUP BY mailbox_id),
locked AS MATERIALIZED (
    SELECT mailbox_id FROM mailbox WHERE mailbox_id = ANY ($28::bigint[]) ORDER BY mailbox_id FOR NO KEY UPDATE),
slot AS (
    UPDATE mailbox AS m
       SET uidnext = m.uidnext + w.messages, highestmodseq = m.highestmodseq + 1,
           message_count = m.message_count + w.messages, unseen_count = m.unseen_count + w.unseen,
           size_octets = m.size_octets + w.octets
      FROM locked AS l JOIN wanted AS w USING (mailbox_id)
     WHERE m.mailbox_id = l.mailbox_id AND m.is_selectable
 RETURNING m.mailbox_id, m.uidvalidity, m.uidnext - w.messages AS first_uid, m.highestmodseq AS modseq),
numbered AS MATERIALIZED (
    SELECT p.*, s.uidvalidity, s.modseq,
           s.first_uid + row_number() OVER (PARTITION BY p.mailbox_id ORDER BY p.ordinal) - 1 AS uid
      FROM placement AS p LEFT JOIN slot AS s USING (mailbox_id)),
new_message AS (
    INSERT INTO message (mailbox_id, uid, modseq, content_id, flags, keywords, size_octets, internaldate)
    SELECT mailbox_id, uid, modseq, content_id, flags, string_to_array(keywords, ' '), size_octets, internaldate FROM numbered),
told AS MATERIALIZED (
    SELECT pg_notify('postwerk_mailbox', string_agg(mailbox_id || ':' || modseq, ' '))
      FROM (SELECT mailbox_id, modseq, row_number() OVER () / 180 AS part FROM slot) AS parts GROUP BY part
     UNION ALL
    SELECT pg_notify('postwerk_journal', '') FROM (SELECT FROM new_journal LIMIT 1) AS any_entry
     UNION ALL
    SELECT pg_notify('postwerk_search', '') WHERE cardinality($27::bigint[]) > 0)
SELECT uid, uidvalidity, modseq, (SELECT count(*) FROM told) FROM numbered ORDER BY ordinal
"""

# The same with rows for the outbound queue. A trigger of outbound_recipient wakes the relays (0012_queue.sql).
_QUEUED = """
new_outbound AS (
    INSERT INTO outbound_message (outbound_id, content_id, tenant_id, account_id, trace_id, reverse_path, envid, ret, body,
                                  is_smtputf8, is_requiretls, priority, deliver_by, deliver_by_mode, expires_at)
    SELECT content_id, *
      FROM unnest($41::bigint[], $42::bigint[], $43::bigint[], $44::text[], $45::text[], $46::text[], $47::text[], $48::text[],
                  $49::boolean[], $50::boolean[], $51::smallint[], $52::timestamptz[], $53::text[], $54::timestamptz[])
        AS m (content_id)),
new_recipient AS (
    INSERT INTO outbound_recipient (outbound_id, tenant_id, sender, urgency, forward_path, domain, notify, orcpt, state,
                                    held_reason, next_attempt_at)
    SELECT outbound_id, tenant_id, sender, urgency, forward_path, domain, notify, orcpt,
           CASE WHEN held_reason IS NULL THEN 'waiting' ELSE 'held' END, held_reason, coalesce(release_at, now())
      FROM unnest($55::bigint[], $56::bigint[], $57::bigint[], $58::smallint[], $59::text[], $60::text[], $61::text[], $62::text[],
                  $63::text[], $64::timestamptz[])
        AS r (outbound_id, tenant_id, sender, urgency, forward_path, domain, notify, orcpt, held_reason, release_at)),
"""
INGEST_AND_QUEUE = INGEST.replace("placement AS MATERIALIZED (", _QUEUED.lstrip() + "placement AS MATERIALIZED (", 1)

LOCK_MAILBOXES = "SELECT FROM mailbox WHERE mailbox_id = ANY ($1::bigint[]) ORDER BY mailbox_id FOR NO KEY UPDATE"

KNOWN_BLOBS = """
SELECT b.tenant_id, b.digest
  FROM unnest($1::bigint[], $2::bytea[]) AS wanted (tenant_id, digest)
  JOIN blob AS b USING (tenant_id, digest)
"""

COMMITTED = "SELECT count(*) FROM content WHERE content_id = ANY ($1::bigint[])"

# What an attempt whose answer was lost had placed, in the order of the arrays. A message that was moved or expunged since
# still counts as placed; its uid is then unknown to us and given as 0.
PLACED = """
SELECT coalesce(min(m.uid), 0) AS uid, coalesce(min(b.uidvalidity), 0) AS uidvalidity, coalesce(min(m.modseq), 0) AS modseq
  FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS target (content_id, mailbox_id, ordinal)
  LEFT JOIN message AS m USING (content_id, mailbox_id)
  LEFT JOIN mailbox AS b USING (mailbox_id)
 GROUP BY ordinal ORDER BY ordinal
"""

# Where the octets of contents lie: the skeleton (start NULL) and each part taken out of it, by content and start.
LAYOUTS = """
SELECT c.content_id, c.tenant_id, c.head, c.size_octets, -1::bigint AS start_octet, b.digest, b.segment_id, b.position,
       b.record_octets, b.plain_octets, b.wrapped_key
  FROM content AS c JOIN blob AS b ON b.tenant_id = c.tenant_id AND b.digest = c.skeleton
 WHERE c.content_id = ANY ($1::bigint[])
 UNION ALL
SELECT p.content_id, p.tenant_id, NULL, NULL, p.start_octet, b.digest, b.segment_id, b.position,
       b.record_octets, b.plain_octets, b.wrapped_key
  FROM content_part AS p JOIN blob AS b USING (tenant_id, digest)
 WHERE p.content_id = ANY ($1::bigint[])
 ORDER BY content_id, start_octet
"""

-- What the outbound queue needs beyond 0003.
SELECT 1; -- replace this line

-- Received reports.
SELECT 1; -- replace this line

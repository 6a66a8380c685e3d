-- What submission keeps per account.
SELECT 1; -- replace this line

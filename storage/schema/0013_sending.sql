-- Who may send as what, and how much.
SELECT 1; -- replace this line

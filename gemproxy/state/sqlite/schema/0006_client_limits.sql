-- What clients have used of their own limits: by calendar day, and by month.
CREATE TABLE client_limits (
    client   TEXT NOT NULL,
    period   TEXT NOT NULL,                 -- day or month
    start    INTEGER NOT NULL,              -- the number of its first day since 1970-01-01
    requests INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    cost     REAL NOT NULL,
    PRIMARY KEY (client, period, start)
) WITHOUT ROWID;

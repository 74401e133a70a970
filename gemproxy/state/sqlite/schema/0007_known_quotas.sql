-- Quotas that the upstream has named, and what was used of them.
CREATE TABLE known_quotas (
    project        TEXT NOT NULL,
    model          TEXT NOT NULL,           -- as the upstream counts it; *: all together
    names          TEXT NOT NULL,           -- JSON: the models that requests name
    limits         TEXT NOT NULL,           -- JSON: [{dimension, limit, id, seen, …}]
    seen           REAL NOT NULL,           -- when the upstream named one last
    requests_today INTEGER NOT NULL,
    tokens_today   INTEGER NOT NULL,
    served_today   INTEGER NOT NULL,
    day_ends       REAL NOT NULL,
    uses           TEXT NOT NULL,           -- of a minute, JSON: [[time, requests, tokens]]
    PRIMARY KEY (project, model)
) WITHOUT ROWID;

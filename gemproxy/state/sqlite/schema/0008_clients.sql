-- Clients that were made at run time. ``former`` and ``settings`` are JSON.
CREATE TABLE clients (
    name     TEXT PRIMARY KEY,
    id       TEXT NOT NULL,                 -- random; another one for a later client of that name
    created  REAL NOT NULL,
    changed  REAL NOT NULL,
    digest   TEXT NOT NULL,                 -- SHA-256 of its token; empty if it was deleted
    former   TEXT NOT NULL,                 -- tokens before rotations, and until when each is valid
    settings TEXT NOT NULL                  -- what was said; defaults hold for the rest
) WITHOUT ROWID;
-- When each client was seen last, by name.
CREATE TABLE client_seen (
    client TEXT PRIMARY KEY,
    at     REAL NOT NULL
) WITHOUT ROWID;

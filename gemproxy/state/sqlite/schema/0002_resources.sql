-- Which project a file, a cache or another resource of the upstream belongs to.
CREATE TABLE resources (
    name    TEXT PRIMARY KEY,               -- as the upstream names it: files/x
    project TEXT NOT NULL,
    expires REAL NOT NULL                   -- epoch seconds
) WITHOUT ROWID;

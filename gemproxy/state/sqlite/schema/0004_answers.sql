-- Answers that clients may name in later requests, oldest first.
CREATE TABLE answers (
    number  INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    client  TEXT NOT NULL,                  -- the name of the client's token
    created REAL NOT NULL,
    start   BLOB NOT NULL,                  -- the body is start, output and tail
    output  BLOB NOT NULL,
    tail    BLOB NOT NULL,
    history TEXT NOT NULL                   -- JSON array of digests in answer_texts
);

-- The conversations before them; answers share the beginnings of theirs.
CREATE TABLE answer_texts (
    digest TEXT PRIMARY KEY,
    text   BLOB NOT NULL
) WITHOUT ROWID;

-- Times are epoch seconds. No table holds a secret: a key's id is a fingerprint.

-- One row: when the state was taken that the other tables hold.
CREATE TABLE checkpoint (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    taken_at REAL NOT NULL
);

-- What happened to each key. Names are for people; ids count.
CREATE TABLE keys (
    id                   TEXT PRIMARY KEY,
    name                 TEXT NOT NULL,
    open_until           REAL,              -- of the breaker; NULL: closed
    cooldown             REAL NOT NULL,     -- length of the breaker's last rest
    consecutive_failures INTEGER NOT NULL,
    buckets              TEXT NOT NULL,     -- health window, JSON: [[middle, successes, failures]]
    needs_attention      TEXT,
    requests_total       INTEGER NOT NULL,
    last_used            REAL,
    last_error           TEXT,              -- JSON: {at, outcome, status, message}
    usage                TEXT,              -- JSON: {uses: [[time, tokens]], today, day_ends}
    left_at              REAL               -- when it left keys.yaml; NULL: it is there
) WITHOUT ROWID;

-- The operator's words, which outlive the key's absence from the file.
CREATE TABLE overrides (
    key_id  TEXT PRIMARY KEY,
    enabled INTEGER,
    weight  INTEGER CHECK (weight >= 1),
    left_at REAL
) WITHOUT ROWID;

-- Which project may not use which model for now; model * is every model.
CREATE TABLE rests (
    kind    TEXT NOT NULL CHECK (kind IN ('cooldown', 'denial')),
    project TEXT NOT NULL,
    model   TEXT NOT NULL,
    until   REAL NOT NULL,
    reason  TEXT NOT NULL,
    PRIMARY KEY (kind, project, model)
) WITHOUT ROWID;

-- Thought signatures of function calls, oldest first.
CREATE TABLE signatures (
    number          INTEGER PRIMARY KEY,
    call_id         TEXT NOT NULL UNIQUE,
    signature       TEXT,
    issued_upstream INTEGER NOT NULL
);

-- Finished requests, counted by minute (period 60) and by hour (3600).
CREATE TABLE request_metrics (
    period              INTEGER NOT NULL,
    start               INTEGER NOT NULL,
    route               TEXT NOT NULL,
    model               TEXT NOT NULL,
    status_class        TEXT NOT NULL,
    key                 TEXT NOT NULL,
    requests            INTEGER NOT NULL,
    failures            INTEGER NOT NULL,
    retries             INTEGER NOT NULL,
    prompt_tokens       INTEGER NOT NULL,
    cached_tokens       INTEGER NOT NULL,
    completion_tokens   INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    seconds             REAL NOT NULL,
    first_chunks        INTEGER NOT NULL,
    first_chunk_seconds REAL NOT NULL,
    PRIMARY KEY (period, start, route, model, status_class, key)
) WITHOUT ROWID;

-- What operators changed.
CREATE TABLE audit_events (
    at        REAL NOT NULL,
    action    TEXT NOT NULL,
    target    TEXT NOT NULL,
    address   TEXT NOT NULL,
    token     TEXT NOT NULL,
    target_id TEXT,
    before    TEXT NOT NULL,                -- JSON object
    after     TEXT NOT NULL,                -- JSON object
    PRIMARY KEY (at, action, target, address, token)
) WITHOUT ROWID;

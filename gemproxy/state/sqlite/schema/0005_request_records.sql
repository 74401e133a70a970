-- Finished requests, without their contents. ``data`` is JSON.
CREATE TABLE request_records (
    number   INTEGER PRIMARY KEY,           -- when it ended, in microseconds
    digest   INTEGER NOT NULL,              -- of its id
    client   TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model    TEXT NOT NULL,
    key      TEXT NOT NULL,
    status   INTEGER NOT NULL,
    outcome  TEXT NOT NULL,
    data     TEXT NOT NULL
);
CREATE INDEX record_of_id ON request_records (digest);
CREATE INDEX record_of_client ON request_records (client);
CREATE INDEX record_of_key ON request_records (key);
CREATE INDEX record_of_model ON request_records (model);
-- A search goes along one of these, newest first.
CREATE INDEX record_without_success ON request_records (number) WHERE outcome <> 'success';
CREATE INDEX record_of_outcome ON request_records (outcome) WHERE outcome <> 'success';

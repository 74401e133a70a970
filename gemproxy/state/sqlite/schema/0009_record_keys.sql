-- Keys of a request that were tried before the last one. Few requests have any.
CREATE TABLE record_keys (
    record INTEGER NOT NULL REFERENCES request_records (number) ON DELETE CASCADE,
    tried  TEXT NOT NULL,
    PRIMARY KEY (record, tried)
) WITHOUT ROWID;
CREATE INDEX record_of_tried_key ON record_keys (tried);
-- Of the latest records only, so that a start does not take long.
INSERT INTO record_keys
SELECT DISTINCT number, tried
FROM (
    SELECT
        latest.number AS number,
        latest.key AS last,
        CASE attempt.type WHEN 'array' THEN json_extract(attempt.value, '$[0]') END AS tried
    FROM (SELECT number, key, data FROM request_records ORDER BY number DESC LIMIT 100000) AS latest,
         json_each(CASE WHEN json_valid(latest.data) THEN latest.data ELSE '[]' END, '$[1]') AS attempt
)
WHERE typeof(tried) = 'text' AND tried <> last;

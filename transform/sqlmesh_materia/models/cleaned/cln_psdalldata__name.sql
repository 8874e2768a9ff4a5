/* One row per code, with its name in the newest release that contains it */
MODEL (
  name cleaned.cln_psdalldata__name,
  kind VIEW,
  grain (kind, code),
  column_descriptions (
    kind = 'What the code stands for: commodity, country, attribute or unit',
    code = 'The code as USDA writes it',
    name = 'The name as USDA writes it'
  ),
  audits (
    one_row_per_key(key := (kind, code), required := name)
  )
);

WITH source AS (
  SELECT
    kind,
    code,
    name,
    ROW_NUMBER() OVER (PARTITION BY kind, code ORDER BY ingest_date DESC, name) AS rank
  FROM staging.stg_psdalldata__name
)
SELECT
  kind::TEXT,
  code::TEXT,
  name::TEXT
FROM source
WHERE
  rank = 1
/* One row per re-keying that is known from outside the landing: USDA moved a commodity's market years and kept the stamps */
MODEL (
  name seed.known_rekeying,
  kind SEED (
    path '../../seeds/known_rekeyings.csv'
  ),
  columns (
    commodity_code TEXT,
    shown_before_on TEXT,
    shown_after_on TEXT
  ),
  column_descriptions (
    commodity_code = 'Seven digits',
    shown_before_on = 'A day on which a file still had the old keys',
    shown_after_on = 'A day on which a file had the new keys'
  ),
  grain commodity_code,
  audits (
    not_null(columns := (commodity_code, shown_before_on, shown_after_on))
  )
)
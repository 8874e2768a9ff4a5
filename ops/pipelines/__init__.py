"""The pipelines: what `materia pipeline run` and `materia run-all` do."""

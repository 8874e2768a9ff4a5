"""How Materia is run: settings, the run journal, pipelines, the command line `materia`."""

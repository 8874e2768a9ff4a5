"""The console's frame: the app, its configuration, its actions and keys. It imports no screen."""

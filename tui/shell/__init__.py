"""The console's application: configuration, actions and keys. It imports no screen."""

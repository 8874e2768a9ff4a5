"""The Query screen: SQL over the served tables, with results browsed in windows."""

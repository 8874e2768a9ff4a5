"""The Query screen: SQL over what is served, browsed in windows."""

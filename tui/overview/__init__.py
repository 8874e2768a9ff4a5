"""The Overview screen: current status, and the alerts that need an operator."""

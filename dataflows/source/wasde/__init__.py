"""USDA's WASDE report, the second source: the world tables of the monthly report, as XML or as CSV."""

"""The Releases screen: what a release changed, and what USDA said when."""

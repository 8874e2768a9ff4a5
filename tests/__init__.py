"""One folder of tests per room; what they share is in `support`."""

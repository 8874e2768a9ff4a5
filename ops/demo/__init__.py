"""A realistic PSD archive on this machine: generated releases and the loopback server that posts them."""

"""Workers: machines that exist for one run. Providers, what they may cost, SSH, and a worker's life."""

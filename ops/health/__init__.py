"""What is wrong on this host, and how to fix it: status, doctor, alerts."""

"""What is damaged, by a cheap look or by the last scrub, and what is done with damaged files."""

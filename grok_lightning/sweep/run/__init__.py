"""Training of a planned sweep: workers on this machine or in a Ray cluster, locks, and failures."""

"""What can be measured on a model; one file for each kind."""

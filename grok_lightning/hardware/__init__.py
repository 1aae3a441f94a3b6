"""Properties of this machine: CPU cores, speed of precisions, compilers, memory."""

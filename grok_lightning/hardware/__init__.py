"""What this machine has: CPU cores, precisions and their speed, compilers, memory."""

"""Where fits and sweeps stand: what the command ``status`` finds and shows."""

"""How a command line becomes one config."""

"""From records of runs to a folder of tables and figures."""

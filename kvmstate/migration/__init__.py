"""Moving a machine to another host, and with it who owns it; see `move` for the sequence."""

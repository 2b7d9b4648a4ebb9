"""The vocabulary: frozen data that every other package speaks in. No I/O here."""

"""Speed, memory and learning figures; each prints a table, and JSON with --json."""

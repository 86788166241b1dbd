"""The command line: users and data."""

"""The Learning tab."""

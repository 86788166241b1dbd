"""The Demo tab."""

"""The Federation tab."""

"""Base models and adapters: files, loading, prompts, the shared copy of the weights."""

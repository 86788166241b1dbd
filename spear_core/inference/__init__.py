"""Generating replies: batching, decoding, the prefix cache."""

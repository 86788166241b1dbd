"""Conversations, replies, votes and hints."""

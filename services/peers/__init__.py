"""The circle of peers: publishing, syncing, merging."""

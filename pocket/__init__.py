"""The pocket world, its model's training, and the simulated user. Knows nothing of the app."""

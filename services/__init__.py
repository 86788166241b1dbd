"""What the product does, without a screen: chat, feedback, learning, jobs."""

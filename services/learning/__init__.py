"""Learning rounds and what surrounds them: anchors, labels, versions, forgetting, self-play."""

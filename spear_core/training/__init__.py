"""Learning rounds: losses, packing, the trainer, the gate, the judge."""

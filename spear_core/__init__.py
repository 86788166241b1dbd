"""The learning: SPEAR's losses and rounds, shared-base twins, the gate. No UI, no database, no HTTP."""

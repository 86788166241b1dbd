"""The learning: SPEAR's losses and rounds, models over a shared base, the gate. No UI, no database, no HTTP."""

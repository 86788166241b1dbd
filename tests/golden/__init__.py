"""Figures of the SPEAR authors' implementation on a tiny model, and the harness that reproduces them."""

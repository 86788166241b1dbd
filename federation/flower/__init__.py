"""A fleet of machines on Flower: what the server decides, and the pair of apps that carry it. See its README."""

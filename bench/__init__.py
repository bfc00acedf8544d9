"""Measurements on real documentation: speed beside peers, kills, memory. Not part of the package."""

"""The whole crawler in virtual time: see docs/simulation.md."""

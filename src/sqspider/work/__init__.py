"""The work: deliveries in, outcomes out."""

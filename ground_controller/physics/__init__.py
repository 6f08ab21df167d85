"""Closed-form physics of a satellite bus: heat, charge and wear. Vectorised over satellites."""

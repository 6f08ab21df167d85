"""Orbits, sight lines and sunlight, compiled offline into a link schedule."""

"""Campaigns on modelled boards: the same core, journal, gate and dispatch, with the boards and links calculated."""

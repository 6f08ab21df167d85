"""Peer connections under the orbital link schedule."""

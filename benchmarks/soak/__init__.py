"""Programmes of minutes to hours (`make soak`): each prints its figures and raises when one does not hold."""

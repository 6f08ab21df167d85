"""Before a run: is everything there that it needs, and if not, what is wrong where?"""

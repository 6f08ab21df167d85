"""Ratios against named baselines, both sides taken in one run: `make bench`."""

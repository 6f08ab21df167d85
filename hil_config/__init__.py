"""Contracts: what the packages say to each other and what people write."""

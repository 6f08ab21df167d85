"""The agent that runs on a board."""

VERSION = "0.1.0"

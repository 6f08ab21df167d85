"""An OpenAI-compatible endpoint in front of a run: a socket at the run, and a web server in a process of its own."""

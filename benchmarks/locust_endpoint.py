"""What locust does at the endpoint: users ask for short completions without pause. Run by `benchmarks.endpoint`."""

from __future__ import annotations

import os

from locust import FastHttpUser, constant, task

PROMPTS = ("The satellite", "A long day", "Once there was", "The price of")


class Reader(FastHttpUser):
    """A closed loop without pauses."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Nothing said yet."""
        self.asked = 0

    @task
    def complete(self) -> None:
        """One completion; a full queue counts as a failure of its own name."""
        prompt = PROMPTS[self.asked % len(PROMPTS)]
        self.asked += 1
        body = {"model": os.environ["HIL_MODEL"], "prompt": prompt, "max_tokens": 16}
        self.client.post("/v1/completions", json=body)

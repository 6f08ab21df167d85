"""Ratios against named baselines, both sides taken in one run: `make bench`."""

import hil_config.no_reporting  # noqa: F401  # before any module here imports onnxruntime

"""The agent that runs on a board."""

import hil_config.no_reporting  # noqa: F401  # before any module of ours imports onnxruntime

VERSION = "0.1.0"

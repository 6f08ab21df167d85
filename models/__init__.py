"""MoE models: what a shard is, how it is built and how it is served."""

import hil_config.no_reporting  # noqa: F401  # before any module of ours imports onnxruntime

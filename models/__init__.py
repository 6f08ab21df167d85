"""MoE models: what a shard is, how it is built and how it is served."""

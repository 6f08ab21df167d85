"""Gate and dispatch: sans-io, shared by node and simulator."""

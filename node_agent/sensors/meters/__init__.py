"""External meters on a serial line or a hidraw node: one file a protocol, one driver for all."""

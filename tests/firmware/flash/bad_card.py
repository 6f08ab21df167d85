"""nbdkit plugin: a card in memory with one fault. Not a test, and not imported by one."""

# mypy: ignore-errors
import errno

import nbdkit

API_VERSION = 2


class Card:
    fault = "none"
    data = bytearray()
    half = 0


def config(key, value):
    if key == "fault":
        Card.fault = value
    else:
        Card.data = bytearray(int(value))
        Card.half = int(value) // 2


def open(readonly):
    return 1


def get_size(h):
    return len(Card.data)


def can_flush(h):
    return True


def flush(h, flags):
    if Card.fault == "sync":
        nbdkit.set_error(errno.EIO)
        raise RuntimeError("fsync fails")


def pread(h, buffer, offset, flags):
    end = offset + len(buffer)
    if Card.fault == "counterfeit":
        for index in range(0, len(buffer), 4096):
            at = (offset + index) % Card.half
            buffer[index : index + 4096] = Card.data[at : at + 4096][: len(buffer) - index]
        return
    buffer[:] = Card.data[offset:end]
    if Card.fault == "rot" and offset <= Card.half < end:
        buffer[Card.half - offset] ^= 1


def pwrite(h, buffer, offset, flags):
    if Card.fault == "eio" and offset >= Card.half:
        nbdkit.set_error(errno.EIO)
        raise RuntimeError("medium error")
    if Card.fault == "gone" and offset >= Card.half:
        nbdkit.set_error(errno.ENOSPC)
        raise RuntimeError("unplugged")
    if Card.fault == "dropped" and offset >= Card.half:
        return
    if Card.fault == "counterfeit":
        for index in range(0, len(buffer), 4096):
            at = (offset + index) % Card.half
            part = buffer[index : index + 4096]
            Card.data[at : at + len(part)] = part
        return
    Card.data[offset : offset + len(buffer)] = buffer

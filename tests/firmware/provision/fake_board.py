"""A board's console as a program on a terminal: login, shell, and the ways in which they go wrong. Not a test."""

from __future__ import annotations

import os
import random
import sys
import termios
import threading

NOISE = b"\r\n[   12.345678] usb 1-1: new high-speed USB device number 4 using xhci_hcd\r\n"


def say(text: str) -> None:
    os.write(1, text.encode())


def ask(text: str, echo: bool = True) -> str:
    say(text)
    settings = termios.tcgetattr(0)
    quiet = termios.tcgetattr(0)
    quiet[3] = quiet[3] & ~termios.ECHO if not echo else quiet[3] | termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, quiet)
    line = sys.stdin.readline().strip()
    termios.tcsetattr(0, termios.TCSANOW, settings)
    return line


def name() -> None:
    while not ask("\r\nboard login: "):
        continue


def login(wanted: str) -> None:
    while True:
        name()
        if ask("Password: ", echo=False) == wanted:
            return
        say("\r\nLogin incorrect\r\n")


def shell() -> None:
    os.environ["PS1"] = "\x1b[6nboard# "
    os.execvp("sh", ["sh", "-i"])


def main() -> None:
    mode = sys.argv[1]
    if mode == "noise":
        stop = threading.Event()

        def chatter() -> None:
            while not stop.wait(0.05):
                os.write(1, NOISE[: random.Random(1).randrange(10, len(NOISE))])

        threading.Thread(target=chatter, daemon=True).start()
        login("right")
        import subprocess

        os.environ["PS1"] = "board# "
        subprocess.run(["sh", "-i"], check=False)
    elif mode in ("login", "late", "wrong"):
        if mode == "late":  # the password is set a little after the prompt appears
            for _ in range(2):
                name()
                ask("Password: ", echo=False)
                say("\r\nLogin incorrect\r\n")
        login("right" if mode != "wrong" else "another")
        shell()
    elif mode == "shell":
        shell()
    elif mode == "loader":
        while ask("\r\nU-Boot 2024.01\r\n=> ") != "boot":
            continue
        login("right")
        shell()
    elif mode == "panic":
        name()
        say("\r\n[   30.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\r\n")
        threading.Event().wait()
    elif mode == "hung":
        name()
        threading.Event().wait()
    elif mode == "wizard":
        say("\r\nLicense For Customer Use of NVIDIA Software\r\n")
        threading.Event().wait()
    elif mode == "garbage":
        while True:
            os.write(1, random.Random(2).randbytes(64).replace(b"$ ", b"").replace(b"# ", b""))
            sys.stdin.readline()
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()

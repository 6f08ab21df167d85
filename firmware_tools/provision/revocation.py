"""The bench's revocation list on boards in service: whether they have it, go by it, and get the newest.

A running agent reads a list that was replaced within a second or two and cuts off whom it names. One whose
configuration does not name a list yet, as first boots wrote it once, is told and has to be started again.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from firmware_tools.firstboot.payload import HOME
from firmware_tools.identity import CRL_FILE
from firmware_tools.identity_store import IdentityStore
from firmware_tools.provision.agent_slots import CONFIG, PYTHON
from firmware_tools.provision.board_shell import BoardShell

PATH = f"{HOME}/{CRL_FILE}"
_NAME_IT = (
    "import json,os;"
    f'p="{CONFIG}";c=json.load(open(p));c["tls"]["crl"]="{PATH}";s=os.stat(p);'
    'f=os.open(p+".new",os.O_WRONLY|os.O_CREAT|os.O_TRUNC,0o600);os.write(f,json.dumps(c,indent=2).encode());'
    'os.fsync(f);os.fchown(f,s.st_uid,s.st_gid);os.rename(p+".new",p)'
)


class BoardRevocations(msgspec.Struct, frozen=True):
    """`listed`: current, other (than the bench's) or none. `named`: the agent's configuration goes by it."""

    listed: str
    named: bool

    @property
    def in_order(self) -> bool:
        return self.listed == "current" and self.named

    def __str__(self) -> str:
        words = {"current": "current", "other": "not the bench's", "none": "missing"}[self.listed]
        return words if self.named else f"{words}, and the agent does not read it"


def read_revocations(shell: BoardShell, store: IdentityStore, timeout_s: float) -> BoardRevocations:
    """Read only."""
    out = shell.must(
        f"sha256sum {PATH} 2>/dev/null; grep -q '\"crl\" *: *\"{PATH}\"' {CONFIG} 2>/dev/null && echo named; echo",
        "reading its revocation list", timeout_s,
    )  # fmt: skip
    digest = re.search(r"\b[0-9a-f]{64}\b", out)
    ours = hashlib.sha256(store.file(CRL_FILE)).hexdigest()
    listed = "none" if digest is None else "current" if digest[0] == ours else "other"
    return BoardRevocations(listed, re.search(r"^named\s*$", out, re.MULTILINE) is not None)


def bring_revocations(shell: BoardShell, store: IdentityStore, found: BoardRevocations, timeout_s: float) -> list[str]:
    """What was changed; whoever is told "the agent goes by it" has to start the agent again."""
    changed = []
    if found.listed != "current":
        shell.put(PATH, store.file(CRL_FILE), "644")
        changed.append("revocation list brought")
    if not found.named:
        shell.must(f"{PYTHON} -c '{_NAME_IT}'", "naming the revocation list to its agent", timeout_s)
        changed.append("agent told to go by the revocation list")
    return changed

#!/bin/sh
# First boot of a board of the testbed. Usage: hil-firstboot.sh BOOT, where BOOT/hil holds what `hil firstboot` wrote.
# Safe to run again: every step looks first, and what was done is noted in /etc/hil/firstboot.done.
# Secrets are taken over into files of root's and then overwritten and removed from the boot partition.
# Every file that others have to read gets its mode by name: umask, here or of whoever calls, decides none of them.
# HIL_ROOT is a prefix for tests; a board has none.
set -eu
umask 077
BOOT="$1"
ROOT="${HIL_ROOT:-}"
IN="$BOOT/hil"
ETC="$ROOT/etc/hil"
say() { echo "hil-firstboot: $*"; }
die() { say "FAILED $*"; exit 1; }
whole() { # MODE FILE: standard input, beside and then renamed, with this mode and never a wider one
  (umask 077 && cat >"$2.new") && chmod "$1" "$2.new" && mv "$2.new" "$2"
}

[ -d "$IN" ] || { say "nothing to do"; exit 0; }
(cd "$IN" && sha256sum -c SHA256SUMS >/dev/null 2>&1) || die "at checksums: $IN is damaged; write it again"
value() { sed -n "s/^$1=//p" "$IN/firstboot.env" | head -n 1; }
NODE="$(value NODE)"
[ -n "$NODE" ] || die "at firstboot.env: no NODE"
mkdir -p "$ETC/identity" "$ROOT/var/lib/hil/spool"
(umask 022 && mkdir -p "$ROOT/opt/hil/slots" "$ROOT/home")
chmod 0700 "$ETC" "$ETC/identity"

# A board without a battery-backed clock starts in 1970, before every certificate.
EPOCH="$(value EPOCH)"
if [ -n "$EPOCH" ] && [ "$(date +%s)" -lt "$EPOCH" ]; then
  if [ -z "$ROOT" ]; then date -s "@$EPOCH" >/dev/null; fi
  say "clock set to $EPOCH"
fi

echo "$NODE" | whole 0644 "$ROOT/etc/hostname"
[ -n "$ROOT" ] || hostname "$NODE"
if ! grep -q "127.0.1.1.*[[:space:]]$NODE\$" "$ROOT/etc/hosts" 2>/dev/null; then
  { cat "$ROOT/etc/hosts" 2>/dev/null || true; echo "127.0.1.1 $NODE"; } | whole 0644 "$ROOT/etc/hosts"
fi
chmod 0644 "$ROOT/etc/hosts"

USER_NAME="$(value USER)"
if [ -s "$IN/password.hash" ] && [ -n "$USER_NAME" ]; then
  HASH="$(cat "$IN/password.hash")"
  if ! grep -q "^$USER_NAME:" "$ROOT/etc/passwd"; then
    if [ -z "$ROOT" ] && command -v useradd >/dev/null; then
      useradd -m -s /bin/sh "$USER_NAME"
    else
      echo "$USER_NAME:x:1000:1000::/home/$USER_NAME:/bin/sh" >>"$ROOT/etc/passwd"
      echo "$USER_NAME:!:19000:0:99999:7:::" >>"$ROOT/etc/shadow"
      mkdir -p "$ROOT/home/$USER_NAME"
    fi
  fi
  chmod 0644 "$ROOT/etc/passwd"
  # Of root and the group shadow where there is one, whose programs check passwords; else of root alone.
  MODE=0600
  GROUP="$(sed -n 's/^shadow:[^:]*:\([0-9]*\):.*/\1/p' "$ROOT/etc/group" 2>/dev/null | head -n 1)"
  (umask 077 && HASH="$HASH" awk -F: -v OFS=: -v u="$USER_NAME" '$1 == u { $2 = ENVIRON["HASH"] } { print }' \
    "$ROOT/etc/shadow" >"$ROOT/etc/shadow.new")
  if [ -n "$GROUP" ] && [ "$(id -u)" = 0 ]; then
    chown "0:$GROUP" "$ROOT/etc/shadow.new"
    MODE=0640
  fi
  chmod "$MODE" "$ROOT/etc/shadow.new"
  mv "$ROOT/etc/shadow.new" "$ROOT/etc/shadow"
fi
if [ -s "$IN/authorized_keys" ] && [ -n "$USER_NAME" ]; then
  HOME_OF="$(sed -n "s/^$USER_NAME:\([^:]*:\)\{4\}\([^:]*\):.*/\2/p" "$ROOT/etc/passwd" | head -n 1)" # root's is /root
  HOME_OF="$ROOT${HOME_OF:-/home/$USER_NAME}"
  KEYS="$HOME_OF/.ssh"
  mkdir -p "$KEYS"
  chmod 0700 "$KEYS"
  whole 0600 "$KEYS/authorized_keys" <"$IN/authorized_keys"
  [ -n "$ROOT" ] || chown -R "$USER_NAME" "$HOME_OF"
fi

install_tar() { # ARCHIVE FOLDER: unpack beside, then rename
  [ -f "$IN/$1" ] || return 0
  SUM="$(sha256sum "$IN/$1" | cut -c1-12)"
  if [ ! -d "$2/$SUM" ]; then
    rm -rf "$2/.new"
    (umask 022 && mkdir -p "$2/.new" && tar -xf "$IN/$1" -C "$2/.new") || die "at $1: cannot be unpacked"
    mv "$2/.new" "$2/$SUM"
  fi
  echo "$SUM"
}
SLOT="$(install_tar agent.tar "$ROOT/opt/hil/slots")"
if [ -n "$SLOT" ]; then
  ln -sfn "slots/$SLOT" "$ROOT/opt/hil/current"
  say "agent in slot $SLOT"
fi
SHARDS="$(install_tar shards.tar "$ROOT/var/lib/hil/models")"
[ -z "$SHARDS" ] || ln -sfn "models/$SHARDS" "$ROOT/var/lib/hil/shards"

keep() { [ ! -f "$IN/$2" ] || whole "$1" "$3" <"$IN/$2"; } # FAT has no modes
keep 0600 agent.json "$ETC/agent.json"
keep 0644 ca.pem "$ETC/identity/ca.pem"
keep 0644 crl.pem "$ETC/identity/crl.pem"
keep 0644 command.pub.pem "$ETC/identity/command.pub.pem"
keep 0600 token "$ETC/token"
KEY="$ETC/identity/key.pem"
if [ ! -s "$KEY" ]; then # made here, and never leaves this board
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$KEY.new" 2>/dev/null || die "at key"
  chmod 0600 "$KEY.new"
  mv "$KEY.new" "$KEY"
fi
openssl req -new -key "$KEY" -subj "/CN=$NODE" -out "$ETC/identity/request.pem" 2>/dev/null || die "at request"
chmod 0644 "$ETC/identity/request.pem"
sync

# FAT keeps the old bytes of a removed file: overwrite first.
for SECRET in token password.hash wifi.nmconnection wifi.yaml; do
  if [ -f "$IN/$SECRET" ]; then
    SIZE="$(wc -c <"$IN/$SECRET")"
    dd if=/dev/zero of="$IN/$SECRET" bs=1 count="$SIZE" conv=notrunc 2>/dev/null
    sync
  fi
done
rm -rf "$IN"
sync
date -u +%Y-%m-%dT%H:%M:%SZ | whole 0644 "$ETC/firstboot.done"
sync
say "done, $NODE waits for its certificate"

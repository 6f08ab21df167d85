#!/bin/sh
# Around hil-firstboot.sh on images of distributions: the user, Python wheels, network, time, and systemd units that
# start the agent as soon as the board has its certificate. Usage: hil-start.sh BOOT, as root, once.
# Ends with the secrets off the boot partition, also after a failure. HIL_ROOT is a prefix for tests; a board has none.
set -eu
umask 077
BOOT="$1"
ROOT="${HIL_ROOT:-}"
IN="$BOOT/hil"
mkdir -p "$ROOT/var/log"
LOG="$ROOT/var/log/hil-firstboot.log"
say() { echo "hil-start: $*" | tee -a "$LOG"; }
die() { say "FAILED $*"; exit 1; }
scrub() {
  for SECRET in token password.hash; do
    if [ -f "$IN/$SECRET" ]; then
      dd if=/dev/zero of="$IN/$SECRET" bs=1 count="$(wc -c <"$IN/$SECRET")" conv=notrunc 2>/dev/null
      sync
      rm -f "$IN/$SECRET"
    fi
  done
  sync
}
trap scrub EXIT
[ -d "$IN" ] || { say "nothing to do"; exit 0; }
(cd "$IN" && sha256sum -c SHA256SUMS >/dev/null 2>&1) || die "at checksums: $IN is damaged; write it again"
value() { sed -n "s/^$1=//p" "$IN/firstboot.env" "$IN/start.env" | head -n 1; }
JETSON="$(value JETSON)"
NTP="$(value NTP)"

# The user. A hash is never an argument: hil-firstboot.sh writes it into /etc/shadow.
USER_NAME="$(value USER)"
if [ -z "$ROOT" ] && ! grep -q "^$USER_NAME:" /etc/passwd; then
  if [ -x /usr/lib/userconf-pi/userconf ]; then
    /usr/lib/userconf-pi/userconf "$USER_NAME" '*' || say "userconf failed, going on with useradd"
    systemctl disable userconfig 2>/dev/null || true # the wizard would wait on the console
    systemctl enable getty@tty1 2>/dev/null || true
  fi
  grep -q "^$USER_NAME:" /etc/passwd || useradd -m -s /bin/bash "$USER_NAME" || die "at useradd"
fi
for GROUP in adm dialout sudo video; do
  [ -n "$ROOT" ] || usermod -aG "$GROUP" "$USER_NAME" 2>/dev/null || true
done
(umask 022 && mkdir -p "$ROOT/etc/sudoers.d")
echo "$USER_NAME ALL=(ALL) NOPASSWD: ALL" >"$ROOT/etc/sudoers.d/010_hil"
chmod 0440 "$ROOT/etc/sudoers.d/010_hil"

if [ -f "$IN/hil.nmconnection" ] && [ -d "$ROOT/etc/NetworkManager" ]; then
  mkdir -p "$ROOT/etc/NetworkManager/system-connections"
  cat "$IN/hil.nmconnection" >"$ROOT/etc/NetworkManager/system-connections/hil.nmconnection"
fi
if [ -n "$NTP" ]; then
  (umask 022 && mkdir -p "$ROOT/etc/systemd/timesyncd.conf.d" &&
    printf '[Time]\nNTP=%s\n' "$NTP" >"$ROOT/etc/systemd/timesyncd.conf.d/hil.conf")
fi

# Wheels are unpacked, not installed: no pip, no compiler, no internet.
if [ -f "$IN/wheels.tar" ]; then
  SUM="$(sha256sum "$IN/wheels.tar" | cut -c1-12)"
  SITE="$ROOT/opt/hil/wheels/$SUM"
  if [ ! -d "$SITE" ]; then
    rm -rf "$SITE.new" "$SITE.tmp"
    mkdir -p "$SITE.new" "$SITE.tmp"
    tar -xf "$IN/wheels.tar" -C "$SITE.tmp" || die "at wheels.tar"
    for WHEEL in "$SITE.tmp"/*.whl; do
      (umask 022 && python3 -m zipfile -e "$WHEEL" "$SITE.new") || die "at wheel $(basename "$WHEEL")"
    done
    rm -rf "$SITE.tmp"
    mv "$SITE.new" "$SITE"
  fi
  ln -sfn "wheels/$SUM" "$ROOT/opt/hil/site"
  PYTHONPATH="$ROOT/opt/hil/site" python3 -c 'import msgspec, numpy' 2>>"$LOG" ||
    die "at wheels: not for this $(python3 --version)"
fi

sh "$IN/hil-firstboot.sh" "$BOOT" >>"$LOG" 2>&1 || die "in hil-firstboot.sh: $(tail -n 1 "$LOG")"

# Units. The agent's own text, unchanged, and beside it what is different on a board that was set up this way.
if [ -e "$ROOT/opt/hil/current" ]; then
  chmod -R a+rX "$ROOT/opt/hil"
  agent() { PYTHONPATH="$ROOT/opt/hil/current" PYTHONDONTWRITEBYTECODE=1 python3 -m node_agent.cli "$@"; }
  RUNS=hil-agent
  [ -z "$JETSON" ] || RUNS=root
  UNITS="$ROOT/etc/systemd/system"
  (
    umask 022
    mkdir -p "$UNITS/hil-agent.service.d" "$UNITS/multi-user.target.wants" "$ROOT/etc/tmpfiles.d"
    agent unit ${JETSON:+--jetson} >"$UNITS/hil-agent.service" || exit 1 # under `||` below, -e does not count
    agent unit --tmpfiles >"$ROOT/etc/tmpfiles.d/hil-agent.conf" || exit 1
    cat >"$UNITS/hil-agent.service.d/firstboot.conf" <<EOF
[Unit]
ConditionPathExists=/etc/hil/identity/certificate.pem

[Service]
ExecStartPre=+/bin/chown -R $RUNS:$RUNS /etc/hil /var/lib/hil
ExecStart=
ExecStart=/usr/bin/python3 -m node_agent.cli run --config /etc/hil/agent.json
Environment=PYTHONPATH=/opt/hil/current:/opt/hil/site
StateDirectory=hil
EOF
    # PathChanged, not PathExists: that one would start an agent again that somebody has stopped.
    cat >"$UNITS/hil-agent.path" <<EOF
[Unit]
Description=Starts the node agent when the board gets its certificate

[Path]
PathChanged=/etc/hil/identity/certificate.pem

[Install]
WantedBy=multi-user.target
EOF
    for UNIT in hil-agent.path hil-agent.service; do
      ln -sfn "../$UNIT" "$UNITS/multi-user.target.wants/$UNIT"
    done
  ) || die "at units"
  if [ -z "$ROOT" ]; then
    getent passwd hil-agent >/dev/null ||
      useradd --system --home-dir /var/lib/hil --no-create-home --shell /usr/sbin/nologin hil-agent || die "at hil-agent"
    systemctl daemon-reload
    systemctl enable ssh 2>/dev/null || true
    systemctl --no-block start ssh hil-agent.path hil-agent.service 2>/dev/null || true # early in a boot, the next one does it
  fi
fi
sync
say "done"

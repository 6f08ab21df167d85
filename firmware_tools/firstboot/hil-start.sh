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
  for SECRET in token password.hash wifi.nmconnection wifi.yaml; do
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
COUNTRY="$(value COUNTRY)"

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
if [ -n "$COUNTRY" ]; then # Wi-Fi: NetworkManager where it is, else netplan; the files hold a key and are root's alone
  (umask 022 && mkdir -p "$ROOT/etc/modprobe.d" &&
    echo "options cfg80211 ieee80211_regdom=$COUNTRY" >"$ROOT/etc/modprobe.d/hil-wifi.conf")
  for BLOCKED in "$ROOT"/var/lib/systemd/rfkill/*:wlan; do
    [ ! -e "$BLOCKED" ] || echo 0 >"$BLOCKED"
  done
  if [ -d "$ROOT/etc/NetworkManager" ]; then
    mkdir -p "$ROOT/etc/NetworkManager/system-connections"
    cat "$IN/wifi.nmconnection" >"$ROOT/etc/NetworkManager/system-connections/hil-wifi.nmconnection"
  elif [ -d "$ROOT/etc/netplan" ]; then
    cat "$IN/wifi.yaml" >"$ROOT/etc/netplan/60-hil-wifi.yaml"
  else
    say "Wi-Fi NOT set up: this image has neither NetworkManager nor netplan"
  fi
  if [ -z "$ROOT" ]; then # in the middle of a first boot some of it is not up yet; the next boot reads the files
    iw reg set "$COUNTRY" 2>/dev/null || true
    rfkill unblock wifi 2>/dev/null || true
    if [ -d /etc/NetworkManager ]; then
      timeout 30 nmcli radio wifi on 2>/dev/null || true
      timeout 30 nmcli connection reload 2>/dev/null || true
    else
      timeout 60 netplan apply >>"$LOG" 2>&1 || say "netplan did not apply the Wi-Fi yet"
    fi
  fi
fi
if [ -n "$NTP" ]; then
  (umask 022 && mkdir -p "$ROOT/etc/systemd/timesyncd.conf.d" &&
    { [ ! -d "$ROOT/etc/chrony/conf.d" ] || cat "$IN/chrony.conf" >"$ROOT/etc/chrony/conf.d/hil.conf"; } &&
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

# Units, as the agent itself brings them.
if [ -e "$ROOT/opt/hil/current" ]; then
  chmod -R a+rX "$ROOT/opt/hil"
  agent() { PYTHONPATH="$ROOT/opt/hil/current" PYTHONDONTWRITEBYTECODE=1 python3 -m node_agent.cli "$@"; }
  agent install ${JETSON:+--jetson} --root "$ROOT/" >>"$LOG" 2>&1 || die "at units: $(tail -n 2 "$LOG" | tr '\n' ' ')"
  if [ -z "$ROOT" ]; then
    systemctl enable ssh 2>/dev/null || true
    systemctl --no-block start ssh hil-agent.path hil-agent.service 2>/dev/null || true # early in a boot, the next one does it
  fi
fi
sync
say "done"

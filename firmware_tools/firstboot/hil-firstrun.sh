#!/bin/sh
# Raspberry Pi OS without cloud-init runs this once (systemd.run= on the kernel's command line), then reboots.
# Whatever happens the call is taken out again: a board that starts into the same failure for ever helps nobody.
BOOT="$(cd "$(dirname "$0")" && pwd)"
sh "$BOOT/hil/hil-start.sh" "$BOOT"
rm -f "$BOOT/firstrun.sh"
sed -i -e 's| systemd\.run[^ ]*||g' -e 's| systemd\.unit=kernel-command-line\.target||g' "$BOOT/cmdline.txt"
sync
exit 0

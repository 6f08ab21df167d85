#!/bin/bash
# The first and only process of the user-mode-linux machine. Arguments come in its environment: PY, REPO, MODULES.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
# Not over /tmp: the repository may lie there.
mount -t tmpfs run /run
for module in drivers/net/veth net/sched/sch_htb net/sched/sch_netem net/sched/sch_tbf net/sched/cls_u32; do
  insmod "$MODULES/kernel/$module.ko"
done
ip link set lo up
cd "$REPO"
TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$REPO "$PY" tests/node/uml/netem_check.py
echo "END $?"
echo o > /proc/sysrq-trigger
sleep 5

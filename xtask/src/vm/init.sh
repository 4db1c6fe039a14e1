#!/bin/busybox sh
# The first process of an emulated machine. What it runs of the suite stands in run.sh.
export PATH=/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
for module in /modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done
# Results share the console with the kernel: it may only say what is fatal.
dmesg -n 1

sh /suite/run.sh
# The serial line still has to send what was written.
sleep 1
echo b > /proc/sysrq-trigger
sleep 60

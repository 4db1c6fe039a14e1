# The suite on this machine's own kernel: in a root of its own, which holds what an emulated machine's does, with a network
# namespace of its own; /proc, /sys and /dev are this machine's. Arguments: an empty folder, the archive.
set -e
root=$1
mount --make-rprivate /
mount -t tmpfs lastwords "$root"
cd "$root"
busybox cpio -i < "$2" 2> /dev/null
for tree in proc sys dev; do
    mount --rbind "/$tree" "$root/$tree"
done
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/old"
pivot_root . old
exec /bin/busybox chroot . /bin/busybox sh -c '
    export PATH=/bin HOME=/root
    /bin/busybox --install -s /bin
    umount -l /old
    rmdir /old
    ip link set lo up
    exec sh /suite/run.sh'

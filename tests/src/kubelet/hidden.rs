//! What the kubelet has a runtime hide from a container that does not ask for all of /proc, and let it only read
//! (pkg/securitycontext/util.go, Kubernetes 1.36).

/// Covered by something empty.
pub const HIDDEN: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Mounted read-only.
pub const ONLY_READ: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

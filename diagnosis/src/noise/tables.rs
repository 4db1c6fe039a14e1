//! What healthy programs look for and do without, and calls that they make for the better.

/// Files and folders that C libraries, language runtimes and shells look for and do without.
pub(super) const OPTIONAL_PREFIXES: &[&str] = &[
    "/.dockerenv",
    "/dev/log",
    "/etc/alpine-release",
    "/etc/bash.bashrc",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/debuginfod",
    "/etc/gai.conf",
    "/etc/gcrypt",
    "/etc/gnutls",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/je_malloc.conf",
    "/etc/ld-musl-",
    "/etc/ld.so.",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/malloc.conf",
    "/etc/netsvc.conf",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/perl/",
    "/etc/pki/",
    "/etc/popt",
    "/etc/profile",
    "/etc/python",
    "/etc/redhat-release",
    "/etc/selinux/",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/svc.conf",
    "/etc/sysconfig/",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/userdb",
    "/lib/terminfo",
    "/lib/userdb",
    "/proc/",
    "/run/.containerenv",
    "/run/host",
    "/run/avahi-daemon/",
    "/run/nscd",
    "/run/systemd/",
    "/run/udev",
    "/run/userdb",
    "/selinux",
    "/sys/",
    "/usr/lib/debug",
    "/usr/lib/jvm/",
    "/usr/lib/node",
    "/usr/lib/locale",
    "/usr/lib/userdb",
    "/usr/lib/ssl/",
    "/usr/lib64/locale",
    "/usr/local/lib/userdb",
    "/usr/local/share/locale",
    "/usr/local/lib/node",
    "/usr/local/ssl/",
    "/usr/share/ca-certificates",
    "/usr/share/crypto-policies",
    "/usr/share/locale",
    "/usr/share/terminfo",
    "/usr/share/zoneinfo",
    "/var/db/nscd",
    "/var/db/timezone",
    "/var/lib/dbus/machine-id",
    "/var/lib/sss/",
    "/var/run/avahi-daemon/",
    "/var/run/nscd",
    "/usr/share/nodejs",
];

/// Folders within a path that mark a search through many places.
pub(super) const OPTIONAL_FOLDERS: &[&str] = &[
    "/LC_MESSAGES/",
    "/__pycache__/",
    "/dist-packages/",
    "/gconv/",
    "/glibc-hwcaps/",
    "/.node_libraries",
    "/.node_modules",
    "/node_modules/",
    "/site-packages/",
    "/rubygems-integration/",
    "/site_perl",
    "/site_ruby",
    "/vendor_ruby",
    "/gems/",
];

/// Endings of names that are looked for beside, or before, the file that counts.
pub(super) const OPTIONAL_ENDINGS: &[&str] = &[
    ".d",
    ".debug",
    ".mo",
    ".pmc",
    ".pth",
    ".pyc",
    "-thread-multi",
    "._pth",
    "/__pycache__",
    "/dist-packages",
    "/gconv-modules.cache",
    "/node_modules",
    "/package.json",
    "/php.ini",
    "/php-cli.ini",
    "/pybuilddir.txt",
    "/pyvenv.cfg",
    "/site-packages",
];

/// Calls that ask about a file instead of using it.
pub(super) const LOOKING: &[&str] = &[
    "access",
    "faccessat",
    "faccessat2",
    "stat",
    "lstat",
    "fstatat",
    "newfstatat",
    "fstatat64",
    "statx",
    "statfs",
    "readlink",
    "readlinkat",
    "getxattr",
    "lgetxattr",
    "listxattr",
    "inotify_add_watch",
];

/// Calls that programs make for the better and do without.
pub(super) const BEST_EFFORT: &[&str] = &[
    // The first process of a container leads its session and its group already, and is told EPERM.
    "setsid",
    "setpgid",
    // Newer calls, in whose place an older one is taken where a filter knows them not.
    "close_range",
    "copy_file_range",
    "epoll_pwait2",
    "landlock_create_ruleset",
    "membarrier",
    "name_to_handle_at",
    "openat2",
    "pidfd_open",
    "rseq",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "setpriority",
    "ioprio_set",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "setrlimit",
    "setsockopt",
    "prlimit64",
    "mlock",
    "mlock2",
    "mlockall",
    "madvise",
    "mbind",
    "set_mempolicy",
    "get_mempolicy",
    "move_pages",
    "personality",
    "prctl",
    "perf_event_open",
    "bpf",
    "io_uring_setup",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "kill",
    "process_vm_readv",
    "kcmp",
];

/// Folders within a path that hold the settings of a language's runtime: every program in that language reads them.
pub(super) const OF_RUNTIMES: &[&str] = &["/cli/conf.d/", "/php/conf.d/"];

/// Words in a file's name that say that it adds to another one, which is enough without it: `application-local.yml`,
/// `postgresql.auto.conf`, `docker-compose.override.yml`.
pub(super) const OPTIONAL_NAMES: &[&str] = &["auto", "local", "override", "overrides"];

/// Parts of the names of those who collect logs, metrics and traces.
pub(super) const NAMES_OF_COLLECTORS: &[&str] = &[
    "collector",
    "datadog",
    "fluent",
    "graphite",
    "jaeger",
    "logstash",
    "loki",
    "opentelemetry",
    "otel",
    "pushgateway",
    "sentry",
    "statsd",
    "telegraf",
    "zipkin",
];

/// Where caches listen, without which a program is slower. (Redis may be a queue as well, and is not always to be done without.)
pub(super) const CACHES: &[u16] = &[
    6379,  // Redis, Valkey
    11211, // memcached
];

/// Where collectors of logs, metrics and traces listen, and the proxies that a container tells of its end: who sends them something does so
/// besides its work, and often on its way out. By their documentation.
pub(super) const COLLECTORS: &[u16] = &[
    514,   // syslog
    601,   // syslog
    2000,  // X-Ray
    4191,  // Linkerd's proxy
    4317,  // OTLP
    4318,  // OTLP
    5044,  // Beats
    6831,  // Jaeger
    6832,  // Jaeger
    8125,  // StatsD
    8126,  // Datadog
    9091,  // Pushgateway
    9411,  // Zipkin
    12201, // GELF
    14250, // Jaeger
    14268, // Jaeger
    15000, // Istio's proxy
    15020, // Istio's agent
    15021, // Istio's proxy
    24224, // Fluentd
];

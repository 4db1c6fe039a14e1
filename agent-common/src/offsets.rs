//! The one list of kernel fields that are read. The agent resolves each from the running kernel's BTF at start-up and freezes it
//! into the program before the verifier sees it, so no offset is ever compiled in.

/// An optional field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls `$define! { NAME: required "struct.member.member"; … }` with the whole list. `a|b` names a member that was renamed,
/// `x or y` a path that was; `optional` ones are [`ABSENT`] where the kernel has none.
#[macro_export]
macro_rules! for_each_kernel_field {
    ($define:ident) => {
        $define! {
            TASK_PID: required "task_struct.pid";
            TASK_TGID: required "task_struct.tgid";
            TASK_FLAGS: required "task_struct.flags";
            TASK_COMM: required "task_struct.comm";
            TASK_MM: required "task_struct.mm";
            TASK_FS: required "task_struct.fs";
            TASK_CRED: required "task_struct.cred";
            TASK_SIGNAL: required "task_struct.signal";
            TASK_PENDING: required "task_struct.pending.signal";
            TASK_NSPROXY: required "task_struct.nsproxy";
            TASK_CGROUPS: required "task_struct.cgroups";
            TASK_EXIT_CODE: required "task_struct.exit_code";
            TASK_GROUP_LEADER: required "task_struct.group_leader";
            TASK_FILES: required "task_struct.files";
            TASK_SECCOMP_MODE: optional "task_struct.seccomp.mode";
            TASK_RUN_DELAY: optional "task_struct.sched_info.run_delay";
            TASK_WRITES: optional "task_struct.ioac.syscw";
            FILE_MNT: required "file.f_path|__f_path.mnt";
            FILE_DENTRY: required "file.f_path|__f_path.dentry";
            CRED_CAPABILITIES: required "cred.cap_effective";
            CRED_GROUPS: required "cred.group_info";
            GROUPS_COUNT: required "group_info.ngroups";
            GROUPS_LIST: required "group_info.gid";
            TASK_REAL_PARENT: required "task_struct.real_parent";
            TASK_THREAD_PID: required "task_struct.thread_pid";
            NSPROXY_MNT_NS: required "nsproxy.mnt_ns";
            PID_LEVEL: required "pid.level";
            PID_NUMBERS: required "pid.numbers";
            PID_NAMESPACE_INUM: optional "pid_namespace.ns.inum";
            CRED_UID: required "cred.uid";
            CRED_GID: required "cred.gid";
            SIGNAL_LIVE: required "signal_struct.live";
            SIGNAL_FLAGS: required "signal_struct.flags";
            SIGNAL_GROUP_EXIT_CODE: required "signal_struct.group_exit_code";
            SIGNAL_LIMITS: required "signal_struct.rlim";
            SIGNAL_OOM_SCORE_ADJ: required "signal_struct.oom_score_adj";
            CSS_SET_DFL_CGRP: required "css_set.dfl_cgrp";
            CSS_SET_SUBSYS: required "css_set.subsys";
            CGROUP_KN: required "cgroup.kn";
            CGROUP_ROOT: required "cgroup.root";
            CGROUP_ROOT_HIERARCHY_ID: required "cgroup_root.hierarchy_id";
            CSS_CGROUP: required "cgroup_subsys_state.cgroup";
            CSS_PARENT: required "cgroup_subsys_state.parent";
            KERNFS_NODE_ID: required "kernfs_node.id";
            KERNFS_NODE_NAME: required "kernfs_node.name";
            KERNFS_NODE_PARENT: required "kernfs_node.__parent|parent";
            MEM_CGROUP_USAGE: required "mem_cgroup.memory.usage";
            MEM_CGROUP_MAX: required "mem_cgroup.memory.max";
            MEM_CGROUP_EVENTS_LOCAL: required "mem_cgroup.memory_events_local";
            MEM_CGROUP_OOM_GROUP: required "mem_cgroup.oom_group";
            OOM_CONTROL_MEMCG: optional "oom_control.memcg";
            MM_TOTAL_VM: required "mm_struct.total_vm";
            MM_PGTABLES: required "mm_struct.pgtables_bytes";
            MM_RSS_STAT: required "mm_struct.rss_stat";
            MM_ARG_START: required "mm_struct.arg_start";
            MM_ARG_END: required "mm_struct.arg_end";
            MM_MAPLE_ROOT: optional "mm_struct.mm_mt.ma_root";
            MM_TREE_ROOT: optional "mm_struct.mm_rb.rb_node";
            MAPLE_RANGE_PIVOTS: optional "maple_range_64.pivot";
            MAPLE_RANGE_SLOTS: optional "maple_range_64.slot";
            MAPLE_ARANGE_PIVOTS: optional "maple_arange_64.pivot";
            MAPLE_ARANGE_SLOTS: optional "maple_arange_64.slot";
            RB_RIGHT: required "rb_node.rb_right";
            RB_LEFT: required "rb_node.rb_left";
            VMA_NODE: optional "vm_area_struct.vm_rb";
            VMA_START: required "vm_area_struct.vm_start";
            VMA_END: required "vm_area_struct.vm_end";
            VMA_PAGE_OFFSET: required "vm_area_struct.vm_pgoff";
            VMA_FLAGS: required "vm_area_struct.vm_flags|__vm_flags";
            VMA_FILE: required "vm_area_struct.vm_file";
            FILE_INODE: required "file.f_inode";
            INODE_NUMBER: required "inode.i_ino";
            TASK_SIGHAND: required "task_struct.sighand";
            SIGHAND_ACTION: required "sighand_struct.action";
            SIGACTION_HANDLER: required "k_sigaction.sa.sa_handler";
            BPRM_FILENAME: required "linux_binprm.filename";
            FS_ROOT_MNT: required "fs_struct.root.mnt";
            FS_ROOT_DENTRY: required "fs_struct.root.dentry";
            FS_PWD_MNT: required "fs_struct.pwd.mnt";
            FS_PWD_DENTRY: required "fs_struct.pwd.dentry";
            DENTRY_PARENT: required "dentry.d_parent";
            DENTRY_NAME: required "dentry.d_name.name";
            MOUNT_MNT: required "mount.mnt";
            MOUNT_PARENT: required "mount.mnt_parent";
            MOUNT_MOUNTPOINT: required "mount.mnt_mountpoint";
            VFSMOUNT_ROOT: required "vfsmount.mnt_root";
            SOCK_FAMILY: required "sock.__sk_common.skc_family";
            SOCK_PORT: required "sock.__sk_common.skc_dport";
            SOCK_ADDRESS_4: required "sock.__sk_common.skc_daddr";
            SOCK_ADDRESS_6: optional "sock.__sk_common.skc_v6_daddr";
            SOCK_NUM: required "sock.__sk_common.skc_num";
            SOCK_NET: required "sock.__sk_common.skc_net.net";
            SOCK_BOUND_4: required "sock.__sk_common.skc_rcv_saddr";
            SOCK_BOUND_6: optional "sock.__sk_common.skc_v6_rcv_saddr";
            SOCK_FLAGS: required "sock.__sk_common.skc_reuse";
            SOCK_PROTOCOL: required "sock.sk_protocol";
            SOCK_CGROUP: optional "sock.sk_cgrp_data.cgroup";
            SOCK_SOCKET: required "sock.sk_socket";
            UNIX_PEER: optional "unix_sock.peer";
            UNIX_ADDRESS: optional "unix_sock.addr";
            UNIX_ADDRESS_LENGTH: optional "unix_address.len";
            UNIX_ADDRESS_NAME: optional "unix_address.name";
            NET_INUM: required "net.ns.inum";
            FILES_TABLE: required "files_struct.fdt";
            TABLE_FILES: required "fdtable.fd";
            FILE_PRIVATE: required "file.private_data";
            SOCKET_SOCK: required "socket.sk";
            SOCK_ERR: required "sock.sk_err";
            SOCK_SHUTDOWN: optional "sock.sk_shutdown";
            TCP_RECEIVED: optional "tcp_sock.bytes_received";
            TCP_SENT: optional "tcp_sock.bytes_sent";
            SKB_SOCK: required "sk_buff.sk";
            SKB_HEAD: required "sk_buff.head";
            SKB_TRANSPORT: required "sk_buff.transport_header";
            SKB_NETWORK: required "sk_buff.network_header";
            SOCK_ERR_SOFT: required "sock.sk_err_soft";
            TASK_STATE: required "task_struct.__state|state";
            TASK_STACK: required "task_struct.stack";
            TABLE_SIZE: required "fdtable.max_fds";
            INODE_MODE: required "inode.i_mode";
            INODE_SUPER: required "inode.i_sb";
            INODE_LOCKS: optional "inode.i_flctx";
            SUPER_DEVICE: required "super_block.s_dev";
            LOCKS_POSIX: optional "file_lock_context.flc_posix";
            LOCKS_FLOCK: optional "file_lock_context.flc_flock";
            LOCK_LIST: optional "file_lock.c.flc_list or file_lock.fl_list";
            LOCK_OWNER: optional "file_lock.c.flc_owner or file_lock.fl_owner";
            LOCK_PID: optional "file_lock.c.flc_pid or file_lock.fl_pid";
            LOCK_TYPE: optional "file_lock.c.flc_type or file_lock.fl_type";
            LOCK_FLAGS: optional "file_lock.c.flc_flags or file_lock.fl_flags";
            LOCK_FILE: optional "file_lock.c.flc_file or file_lock.fl_file";
            LOCK_START: optional "file_lock.fl_start";
            LOCK_END: optional "file_lock.fl_end";
            SIGINFO_CODE: required "kernel_siginfo.si_code";
            SIGINFO_SYSCALL: required "kernel_siginfo._sifields._sigsys._syscall";
            SIGINFO_ADDRESS: required "kernel_siginfo._sifields._sigfault._addr";
        }
    };
}

macro_rules! define {
    ($($name:ident: $need:ident $path:literal;)*) => {
        /// Name (as the program's global is called), need and path of every field.
        pub const FIELDS: &[(&str, Need, &str)] = &[$((stringify!($name), need!($need), $path)),*];
    };
}
macro_rules! need {
    (required) => {
        Need::Required
    };
    (optional) => {
        Need::Optional
    };
}

/// What it means that a kernel lacks a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No program is loaded: this kernel is not supported, and the agent says which field is missing.
    Required,
    /// The program goes without.
    Optional,
}

for_each_kernel_field!(define);

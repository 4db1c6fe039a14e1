//! A made-up record of each kind: a value, and the bytes that the kernel side would write for it.

use lastwords_agent::decode::{
    Event, Executed, Exited, LockHeld, MemoryLevel, OomVictim, Refused, Status, zeroed,
};
use lastwords_agent_common::limits::{
    ARGUMENT_BYTES, CALLER_GROUPS, CGROUP_PATH_BYTES, GROUP_NAME_BYTES, MEMORY_LEVELS, PATH_BYTES,
};
use lastwords_agent_common::record::{self, kind};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Sent, comm, directory, header, put, sent, string};

pub(super) fn cgroup_made() -> BoxedStrategy<Sent> {
    (header(kind::CGROUP_MADE), string(CGROUP_PATH_BYTES - 1))
        .prop_map(|(header, path)| {
            let raw = record::CgroupMade { header, path: put(&path) };
            sent(&raw, header, Event::Made { path: String::from_utf8_lossy(&path).into_owned() })
        })
        .boxed()
}

pub(super) fn cgroup_gone() -> BoxedStrategy<Sent> {
    header(kind::CGROUP_GONE)
        .prop_map(|header| sent(&record::CgroupGone { header }, header, Event::Gone))
        .boxed()
}

/// Arguments as the kernel keeps them, each with its zero: how many bytes there were, those that are kept, and what they say.
fn arguments() -> impl Strategy<Value = (u32, [u8; ARGUMENT_BYTES], Vec<Vec<u8>>, bool)> {
    vec(string(ARGUMENT_BYTES), 0..12).prop_map(|arguments| {
        let whole: Vec<u8> =
            arguments.iter().flat_map(|argument| [argument.as_slice(), b"\0"].concat()).collect();
        let there = u32::try_from(whole.len()).unwrap_or(u32::MAX);
        let kept = &whole[..whole.len().min(ARGUMENT_BYTES - 1)];
        let truncated = kept.len() < whole.len();
        let said =
            if truncated { kept.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() } else { arguments };
        (there, put(kept), said, truncated)
    })
}

pub(super) fn executed() -> BoxedStrategy<Sent> {
    let identity = (any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>(), any::<bool>(), any::<bool>());
    (header(kind::EXECUTED), identity, comm(), string(PATH_BYTES - 1), arguments(), directory())
        .prop_map(|(header, identity, comm, filename, arguments, (raw_cwd, cwd))| {
            let (tgid, uid, gid, namespace_init, first, compat) = identity;
            let (argument_bytes, kept, arguments, arguments_truncated) = arguments;
            let raw = record::Executed {
                header,
                tgid,
                uid,
                gid,
                namespace_init: u32::from(namespace_init),
                first: u32::from(first),
                argument_bytes,
                compat: u32::from(compat),
                padding: 0,
                comm: put(&comm),
                filename: put(&filename),
                arguments: kept,
                cwd: raw_cwd,
            };
            let event = Event::Executed(Executed {
                tgid,
                uid,
                gid,
                namespace_init,
                first,
                compat,
                comm,
                filename,
                arguments,
                arguments_truncated,
                cwd,
            });
            sent(&raw, header, event)
        })
        .boxed()
}

/// A wait status and what it says: an exit code, or a signal and perhaps a core dump.
pub(super) fn status() -> impl Strategy<Value = (u32, Status)> {
    prop_oneof![
        (0..=255_u8).prop_map(|code| {
            (u32::from(code) << 8, Status { code: i32::from(code), signal: 0, core_dumped: false })
        }),
        (1..=64_u8, any::<bool>()).prop_map(|(signal, core_dumped)| {
            let status = u32::from(signal) | u32::from(core_dumped) << 7;
            (status, Status { code: 0, signal: i32::from(signal), core_dumped })
        }),
    ]
}

pub(super) fn exited() -> BoxedStrategy<Sent> {
    let identity = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let limit = || proptest::option::of(0..u64::MAX);
    (header(kind::EXITED), identity, status(), comm(), directory(), [limit(), limit(), limit(), limit()])
        .prop_map(
            |(
                header,
                (tgid, first_tid, uid, gid),
                (raw_status, status),
                comm,
                (raw_cwd, cwd),
                [processes, open_files, waited, writes],
            )| {
                let raw = record::Exited {
                    header,
                    tgid,
                    first_tid,
                    status: raw_status,
                    uid,
                    gid,
                    padding: 0,
                    waited: waited.unwrap_or(record::NOT_KNOWN),
                    writes: writes.unwrap_or(record::NOT_KNOWN),
                    limits: [processes, open_files].map(|limit| limit.unwrap_or(u64::MAX)),
                    comm: put(&comm),
                    cwd: raw_cwd,
                };
                let exited = Exited {
                    tgid,
                    first_tid,
                    waited,
                    writes,
                    status,
                    uid,
                    gid,
                    processes,
                    open_files,
                    comm,
                    cwd,
                };
                sent(&raw, header, Event::Exited(exited))
            },
        )
        .boxed()
}

fn level() -> impl Strategy<Value = (record::MemoryLevel, MemoryLevel)> {
    (any::<[u64; 4]>(), any::<bool>(), string(GROUP_NAME_BYTES - 1)).prop_map(
        |([usage_pages, limit_pages, oom_events, id], oom_group, name)| {
            let raw = record::MemoryLevel {
                usage_pages,
                limit_pages,
                oom_events,
                oom_group: u64::from(oom_group),
                id,
                name: put(&name),
            };
            (raw, MemoryLevel { usage_pages, limit_pages, oom_events, oom_group, id, name })
        },
    )
}

pub(super) fn oom_victim() -> BoxedStrategy<Sent> {
    let tasks = (any::<u32>(), comm(), any::<bool>(), any::<i32>(), any::<u32>(), comm(), any::<u32>());
    let owner = any::<Option<u64>>();
    (header(kind::OOM_VICTIM), tasks, any::<[u64; 5]>(), owner, vec(level(), 0..=MEMORY_LEVELS))
        .prop_map(|(header, tasks, sizes, owner, levels)| {
            let (tgid, comm, is_main, oom_score_adj, allocating_tgid, allocating_comm, already_exiting) =
                tasks;
            let [total_vm_pages, anon_pages, file_pages, shmem_pages, page_tables_bytes] = sizes;
            let mut raw_levels = zeroed::<record::OomVictim>().levels;
            for (to, (from, _)) in raw_levels.iter_mut().zip(&levels) {
                *to = *from;
            }
            let raw = record::OomVictim {
                header,
                tgid,
                allocating_tgid,
                is_main: u32::from(is_main),
                oom_score_adj,
                comm: put(&comm),
                allocating_comm: put(&allocating_comm),
                total_vm_pages,
                anon_pages,
                file_pages,
                shmem_pages,
                page_tables_bytes,
                already_exiting,
                owner: owner.unwrap_or_default(),
                owner_known: u64::from(owner.is_some()),
                level_count: u32::try_from(levels.len()).unwrap_or(u32::MAX),
                levels: raw_levels,
            };
            let event = Event::OomVictim(OomVictim {
                tgid,
                comm,
                is_main,
                oom_score_adj,
                allocating_tgid,
                allocating_comm,
                total_vm_pages,
                anon_pages,
                file_pages,
                shmem_pages,
                page_tables_bytes,
                already_exiting: already_exiting != 0,
                ends_by_sigkill: already_exiting & 0x7f == 9,
                owner,
                levels: levels.into_iter().map(|(_, level)| level).collect(),
            });
            sent(&raw, header, event)
        })
        .boxed()
}

pub(super) fn refused() -> BoxedStrategy<Sent> {
    let call = (any::<[u32; 2]>(), any::<u64>(), string(PATH_BYTES - 1));
    let groups = (any::<[u32; CALLER_GROUPS]>(), 0..=2 * CALLER_GROUPS);
    (header(kind::REFUSED), any::<[u32; 2]>(), call, groups)
        .prop_map(|(header, [tgid, tid], ([syscall, errno], failed_at, path), (groups, count))| {
            let length = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
            let raw = record::Refused {
                header,
                tgid,
                length,
                syscall,
                errno,
                failed_at,
                tid,
                group_count: u32::try_from(count).unwrap_or(u32::MAX),
                groups,
                has_place: 0,
                padding: 0,
                place: zeroed(),
                path: put(&path),
            };
            let groups = groups[..count.min(CALLER_GROUPS)].to_vec();
            sent(
                &raw,
                header,
                Event::Refused(Refused { tgid, directory: None, syscall, failed_at, tid, groups, path }),
            )
        })
        .boxed()
}

pub(super) fn lock_held() -> BoxedStrategy<Sent> {
    (header(kind::LOCK_HELD), any::<u32>(), any::<u32>(), any::<u64>())
        .prop_map(|(header, holder, device, inode)| {
            let raw = record::LockHeld { header, holder, device, inode };
            sent(&raw, header, Event::LockHeld(LockHeld { holder, device, inode }))
        })
        .boxed()
}

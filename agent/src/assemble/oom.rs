//! OOM kills: whose limit was hit.

use lastwords_diagnosis::evidence::{MemorySample, OomKill, OomScope};

use super::{Death, Node, is_of_run, text};
use crate::{
    decode::{MemoryLevel, OomVictim},
    memory::Sample,
};

/// Pages that a processor may have charged in advance (MEMCG_CHARGE_BATCH, mm/memcontrol.c): a full group may show that many less.
const CHARGE_BATCH_PAGES: u64 = 64;

pub(super) fn kills(death: &Death, node: &Node<'_>) -> Vec<OomKill> {
    let kills = of_run(death).filter(|(_, victim)| !victim.already_exiting);
    kills.map(|(time, victim)| kill(death, node, *time, victim)).collect()
}

/// Victims after the first program. Those of a whole group may be marked a moment after the main process, one of them, has ended.
fn of_run(death: &Death) -> impl Iterator<Item = &(u64, OomVictim)> {
    let started = death.execs.first().map_or(0, |(time, _)| *time);
    death.oom.iter().filter(move |(time, _)| *time >= started)
}

fn kill(death: &Death, node: &Node<'_>, time: u64, victim: &OomVictim) -> OomKill {
    let bytes = |pages: u64| pages.saturating_mul(node.page_bytes);
    let by_use = owner(&victim.levels);
    // The kernel's own account is right where both were seen; a level beyond those that are walked is in neither.
    let by_account = victim.owner.and_then(|id| match id {
        0 => Some(None),
        id => victim.levels.iter().position(|level| level.id == id).map(Some),
    });
    let owner = by_account.unwrap_or(by_use);
    let level = owner.and_then(|index| victim.levels.get(index));
    OomKill {
        victim_pid: victim.tgid,
        victim_comm: text(&victim.comm),
        victim_is_main: victim.is_main,
        total_vm_bytes: bytes(victim.total_vm_pages),
        anon_rss_bytes: bytes(victim.anon_pages),
        file_rss_bytes: bytes(victim.file_pages),
        shmem_rss_bytes: bytes(victim.shmem_pages),
        page_tables_bytes: victim.page_tables_bytes,
        oom_score_adj: victim.oom_score_adj,
        scope: owner.map_or(OomScope::Node, |index| scope(death, &victim.levels, index)),
        limit_bytes: level.map_or(0, |level| bytes(level.limit_pages)),
        usage_bytes: level.map_or(0, |level| bytes(level.usage_pages)),
        allocating_pid: victim.allocating_tgid,
        allocating_comm: text(&victim.allocating_comm),
        group_kill: level.is_some_and(|level| level.oom_group),
        limit_confirmed: by_account.is_some(),
        time: node.clock.from_monotonic(time),
    }
}

/// OOM kills closer together than this (nanoseconds) are one moment of the curve, as those of a whole group are.
const ONE_MOMENT: u64 = 10_000_000;

/// The memory curve up to the death: what was sampled, and what the kernel knew of the container's use at its OOM kills.
pub(super) fn curve(death: &Death, node: &Node<'_>) -> Vec<MemorySample> {
    let mut samples: Vec<Sample> =
        death.memory.iter().filter(|sample| is_of_run(death, sample.time)).copied().collect();
    if samples.is_empty() {
        return Vec::new();
    }
    let mut last = None;
    for (time, victim) in of_run(death) {
        let own = own_level(death, &victim.levels).and_then(|index| victim.levels.get(index));
        if let Some(level) = own
            && last.is_none_or(|last| time.saturating_sub(last) > ONE_MOMENT)
        {
            last = Some(*time);
            samples.push(Sample { time: *time, bytes: level.usage_pages.saturating_mul(node.page_bytes) });
        }
    }
    samples.sort_by_key(|sample| sample.time);
    samples
        .iter()
        .map(|sample| MemorySample { time: node.clock.from_monotonic(sample.time), bytes: sample.bytes })
        .collect()
}

/// The lowest level that is full and that was itself out of memory. None: the node was.
fn owner(levels: &[MemoryLevel]) -> Option<usize> {
    levels.iter().position(|level| {
        level.oom_events > 0 && level.usage_pages.saturating_add(CHARGE_BATCH_PAGES) >= level.limit_pages
    })
}

/// Whose limit the level at `index` is. A pod's group gets the sum of its containers' limits; where that is this container's own
/// limit the user wrote one number, and that is the container's.
fn scope(death: &Death, levels: &[MemoryLevel], index: usize) -> OomScope {
    match own_level(death, levels) {
        Some(own) if index <= own => OomScope::Container,
        Some(own) if index == own + 1 && !death.container.pod_uid.is_empty() => {
            let same = levels.get(own).map(|level| level.limit_pages)
                == levels.get(index).map(|level| level.limit_pages);
            if same { OomScope::Container } else { OomScope::Pod }
        }
        Some(_) => OomScope::Node,
        None => OomScope::Unknown,
    }
}

/// The level of the container's own group.
fn own_level(death: &Death, levels: &[MemoryLevel]) -> Option<usize> {
    levels.iter().position(|level| contains(&level.name, death.container.id.as_bytes()))
}

fn contains(name: &[u8], id: &[u8]) -> bool {
    name.windows(id.len()).any(|window| window == id)
}

//! After records were dropped: what they would have told is looked for.

use super::{Tracked, Tracker};
use crate::{
    assemble::{Death, End},
    counters,
};

/// From a dropped record to the look for what it would have told, in nanoseconds: longer than a runtime takes to remove a dead
/// container's group.
pub(super) const AFTER: u64 = 5_000_000_000;

impl Tracker {
    /// Reports and forgets the containers whose group is gone.
    pub(super) fn sweep(&mut self, now: u64) -> Vec<Death> {
        let is_gone = |id: u64, it: &Tracked| self.control_groups.id(&it.container.cgroup_path) != Some(id);
        let gone = self.containers.iter().filter(|(id, it)| is_gone(**id, it)).map(|(id, _)| *id);
        let mut deaths = Vec::new();
        for cgroup_id in gone.collect::<Vec<_>>() {
            let Some(tracked) = self.containers.get(&cgroup_id) else { continue };
            let (recorder, is_unseen) = (tracked.recorder, !tracked.ended && !tracked.execs.is_empty());
            if is_unseen && tracked.ends_as_sandbox(None) {
                counters::SANDBOX_ENDS_UNCLEAR.increment();
            } else if is_unseen {
                counters::ENDS_UNSEEN.increment();
                deaths.extend(self.death(cgroup_id, now, End::Unseen));
            }
            self.containers.remove(&cgroup_id);
            self.stop_watching(cgroup_id, recorder);
        }
        self.take_back_strays(now);
        deaths
    }

    /// Gives back the recorders of containers that came and went without a word. Not at the first sight of one: a container that is
    /// made at this very moment has a recorder before the kernel side remembers its group.
    fn take_back_strays(&mut self, now: u64) {
        let mut owners = self.recorders.owners();
        owners.retain(|(_, owner)| !self.containers.contains_key(owner) && !self.groups.contains(*owner));
        let before = std::mem::take(&mut self.strays);
        let (old, new): (Vec<_>, Vec<_>) = owners.into_iter().partition(|stray| before.contains(stray));
        for (recorder, cgroup_id) in old {
            self.stop_watching(cgroup_id, recorder);
        }
        if !new.is_empty() {
            self.strays = new;
            self.sweep_at = Some(now + AFTER);
        }
    }
}

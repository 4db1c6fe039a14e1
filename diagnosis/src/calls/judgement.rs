//! What one failed call says of the end: whether it may have brought it, and how sure that is.

use super::done_without::between_tries_ms;
use super::weight::{Caller, Freshness};
use super::{AT_ONCE_MS, Call};
use crate::errno;
use crate::evidence::Failure;
use crate::noise::{self, Standing};
use crate::verdict::Confidence;

/// Up to here (milliseconds) nothing but the end of it can have followed, also on a busy node, when its command line or its log names it.
const CERTAIN_MS: f64 = 250.0;
/// The same for what nothing names: a program that does without it is at its next work sooner.
const CERTAIN_UNNAMED_MS: f64 = 100.0;
/// The same for a file that it may not use, or a connection that it lost: another one is taken at once.
const CERTAIN_REFUSED_MS: f64 = 60.0;
/// More tries than this are a loop that runs beside the work rather than tries until it gives up.
const MOST_TRIES: u64 = 12;
/// So many looks for the same file, so far apart (milliseconds), are a wait for it.
const LOOKS_OF_A_WAIT: u64 = 3;
const BETWEEN_LOOKS_MS: f64 = 20.0;

impl Call<'_> {
    /// True when it stands near enough to the end to be offered as its reason at all.
    pub(crate) fn may_decide(&self) -> bool {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let related = self.weight.caller >= Caller::ChildJustBefore;
        match self.standing {
            Standing::Noise => false,
            _ if self.worked_on => false,
            _ if self.connected_instead() => false,
            // Work that came to nothing for the want of it would not have gone on.
            _ if self.went_on && self.standing < Standing::Rare => false,
            _ if noise::is_refused_lock(self.failure) && !fresh => false,
            _ if self.failure.unanswered => related && fresh && !self.went_on,
            // A pool loses connections every day, and makes others.
            _ if noise::is_lost_connection(self.failure) => {
                let recent = self.named && self.weight.freshness >= Freshness::Recent;
                related && !self.went_on && (fresh || recent)
            }
            Standing::Weak => {
                let path = &self.failure.path;
                let optional = (noise::is_private(path) && !noise::is_refused_to_make(self.failure))
                    || (noise::is_of_a_package(path) && !noise::is_plug_in(self.failure));
                let alone = self.at_once && self.rivals == 0 && !optional;
                // A JVM's main thread is not the one that ends it.
                let own = self.by_dying() || (self.named && self.weight.caller == Caller::SameProcess);
                own && ((fresh && (self.named || alone)) || self.waited_for())
            }
            Standing::Plain => {
                let recent = self.named && self.weight.freshness >= Freshness::Recent;
                related && (fresh || recent)
            }
            Standing::Rare => related || fresh,
        }
    }

    /// True when it connected to somebody else and went on with that; to the same port elsewhere that was the next of several addresses.
    fn connected_instead(&self) -> bool {
        let Failure { address, later_connected, .. } = self.failure;
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let is_next = port(address).is_some() && port(address) == port(later_connected);
        let later = self.weight.freshness < Freshness::Fresh;
        !later_connected.is_empty() && (self.went_on || is_next || later)
    }

    /// True for a call that fails rarely without reason and was made by a process that has to do with the end: while one such
    /// stands unexplained, "nothing failed before" cannot be said.
    pub(crate) fn leaves_doubt(&self) -> bool {
        self.weight.decisive && self.weight.caller >= Caller::ChildJustBefore && self.may_decide()
    }

    /// True for what the main process failed to get and, for most of its life, did without: not offered as the reason, but worth a word
    /// where there is no other.
    pub(crate) fn is_done_without(&self) -> bool {
        self.worked_on && self.weight.decisive
    }

    /// True when it was made again and again, by one process or by one child after another.
    pub(crate) fn was_tried_again(&self) -> bool {
        self.failure.count > 1 || self.tried_by_children
    }

    /// True when a log line about something else does not make up for it.
    pub(crate) fn outweighs_words(&self) -> bool {
        self.named || (self.standing == Standing::Rare && !noise::is_lost_connection(self.failure))
    }

    /// How far this call carries the cause.
    pub(crate) fn confidence(&self) -> Confidence {
        let shown = self.shown();
        if self.may_be_tolerated { shown.min(Confidence::Medium) } else { shown }
    }

    /// The same by what is recorded of it alone.
    fn shown(&self) -> Confidence {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let own = self.weight.caller >= Caller::SameProcess;
        let near = self.weight.caller >= Caller::ChildJustBefore;
        let certain_ms = match self.named {
            true => CERTAIN_MS,
            false if self.failure.path.is_empty() && !noise::is_lost_connection(self.failure) => {
                CERTAIN_UNNAMED_MS
            }
            false => CERTAIN_REFUSED_MS,
        };
        let certain = (self.gap_ms <= certain_ms || (self.gave_up() && self.waited_out()))
            && !self.went_on
            && !self.followed
            && !noise::is_cache(&self.failure.path)
            && (self.named || self.at_once || !noise::is_log(&self.failure.path));
        match self.standing {
            Standing::Weak if self.waited_for() && noise::is_shell(&self.failure.comm) => Confidence::Medium,
            Standing::Weak if self.by_dying() => {
                match (self.named, self.gap_ms <= AT_ONCE_MS && self.rivals == 0) {
                    (true, true) => Confidence::High,
                    (true, false) | (false, true) => Confidence::Medium,
                    (false, false) => Confidence::Low,
                }
            }
            Standing::Plain if fresh && self.by_dying() => self.plain(),
            Standing::Plain if fresh && own && (self.named || self.rivals == 0) => Confidence::Medium,
            // Neither is a lock that somebody has, nor what was tried again until it was given up, a thing that was done without.
            Standing::Plain
                if fresh
                    && near
                    && self.rivals == 0
                    && (self.tried_by_children || self.failure.errno == errno::EEXIST) =>
            {
                Confidence::Medium
            }
            Standing::Rare if noise::is_lost_connection(self.failure) => self.lost(certain),
            // A connection that was opened for later use is closed on the way out, too.
            Standing::Rare if self.failure.unanswered && fresh && near => {
                if self.rivals == 0 || self.named {
                    Confidence::Medium
                } else {
                    Confidence::Low
                }
            }
            Standing::Rare if self.failure.unanswered => Confidence::Low,
            Standing::Rare if certain && (self.by_dying() || (own && self.named)) => Confidence::High,
            Standing::Rare if fresh && near => Confidence::Medium,
            Standing::Rare if self.by_dying() && self.weight.freshness == Freshness::Recent => {
                Confidence::Medium
            }
            Standing::Noise | Standing::Weak | Standing::Plain | Standing::Rare => Confidence::Low,
        }
    }

    /// A connection that was lost ends a program that asks nothing else of anybody. One that is only found closed when something is sent
    /// (EPIPE) may have been found so on the way out, by a last word to the peer.
    fn lost(&self, certain: bool) -> Confidence {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let told_first = self.failure.errno != errno::EPIPE && self.rivals == 0;
        match (self.named, self.by_dying()) {
            (true, true) if certain => Confidence::High,
            (false, true) if certain && told_first => Confidence::High,
            (true, _) => Confidence::Medium,
            (false, _) if fresh => Confidence::Medium,
            (false, _) => Confidence::Low,
        }
    }

    /// A file that is not there may be one the program does without; it is shown to be the cause only when the command line or
    /// the log names it and nothing but leaving followed.
    fn plain(&self) -> Confidence {
        match (self.named, self.at_once, self.rivals) {
            (true, ..) if self.gap_ms <= CERTAIN_UNNAMED_MS => Confidence::High,
            (true, ..) | (_, _, 0) | (_, true, 1..=2) => Confidence::Medium,
            _ => Confidence::Low,
        }
    }

    /// True when its tries are few and it left when the next one was due. One that runs beside the work fails at any moment of it.
    fn waited_out(&self) -> bool {
        self.failure.count <= MOST_TRIES && self.by_clock_ms >= between_tries_ms(self.failure) * 0.7
    }

    /// True when it was tried again and again, and the end came before, or when, the next try would have been due.
    fn gave_up(&self) -> bool {
        self.failure.count > 1 && self.by_clock_ms <= between_tries_ms(self.failure) * 1.5
    }

    /// True for a file that it looked for again and again until it left.
    fn waited_for(&self) -> bool {
        let Failure { count, first_before_death_ms, last_before_death_ms, .. } = self.failure;
        let apart = (first_before_death_ms - last_before_death_ms) >= BETWEEN_LOOKS_MS * 2.0;
        noise::only_looks(&self.failure.syscall)
            && *count >= LOOKS_OF_A_WAIT
            && apart
            && self.by_dying()
            && self.gave_up()
            && !self.followed
            && !noise::is_private(&self.failure.path)
    }
}

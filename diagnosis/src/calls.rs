//! Which failed call ended the program, if one did.
//!
//! Calls that cannot have (noise, those whose path later opened, those long before the end) are left out of the [`list`]; the others are
//! ordered by [`Weight`], field by field, and the strongest is judged by [`Call::confidence`].

mod beside;
mod children;
mod done_without;
mod judgement;
mod list;
mod named;
mod tolerated;
mod weight;

pub(crate) use done_without::between_tries_ms;
pub(crate) use list::strongest_first;
pub(crate) use weight::{Caller, Weight};

use crate::evidence::Failure;
use crate::noise::Standing;

/// Within this (milliseconds), and within a tenth of its life, a program did nothing but leave.
const AT_ONCE_MS: f64 = 5.0;

/// A failed call that may have ended the program.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// Its index in the evidence.
    pub(crate) index: usize,
    pub(crate) failure: &'a Failure,
    pub(crate) weight: Weight,
    pub(crate) standing: Standing,
    /// Time from the call to the end of the process that made it, in milliseconds, without what its thread waited for a processor.
    pub(crate) gap_ms: f64,
    /// The same by the clock, as the times between tries are.
    pub(crate) by_clock_ms: f64,
    /// Nothing but leaving followed.
    pub(crate) at_once: bool,
    /// The process went on with its work afterwards: it read its configuration, listened, became another program.
    went_on: bool,
    /// It did without, for most of its life.
    worked_on: bool,
    /// The command line or the log names its path or address.
    pub(crate) named: bool,
    /// Other calls speak against it: as good as this one, and about something else.
    pub(crate) rivals: usize,
    /// The same process failed with something else afterwards, or its log says that it goes on, or it served while it tried again and
    /// again, or it connected to somebody else: it had not given up yet.
    followed: bool,
    /// One child after another failed with it, until the main process left instead of starting the next.
    tried_by_children: bool,
    /// It fits the end, and may have been done without all the same.
    pub(crate) may_be_tolerated: bool,
}

impl Call<'_> {
    /// True when the thread that ended the process, or a child whose end was passed on, made the call.
    pub(crate) fn by_dying(&self) -> bool {
        self.weight.caller >= Caller::PassedOn
    }
}

/// What it failed on: a name, a path or an address.
pub(crate) fn thing(failure: &Failure) -> &str {
    if failure.dns.is_some() {
        return &failure.name;
    }
    [&failure.path, &failure.address, &failure.name]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or("", |text| text)
}

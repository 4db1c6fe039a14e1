//! Failed calls by a number each, so that those which a program makes and does without can be remembered.

use crate::calls;
use crate::errno;
use crate::evidence::{Evidence, Failure};

/// Calls that are told of one run at most.
const MOST: usize = 256;

/// The same for the same call on the same thing with the same error, in every version of this program.
pub fn signature(failure: &Failure) -> u64 {
    let error = errno::shown(failure.errno);
    let parts = [failure.syscall.as_str(), error.as_str(), calls::thing(failure)];
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    // FNV-1a.
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The failed calls without which a program has gone on for this long (milliseconds) that is still running when this evidence is taken,
/// sorted.
pub fn done_without(evidence: &Evidence, went_on_ms: f64) -> Vec<u64> {
    let failures = evidence.failures.iter().filter(|failure| {
        !failure.later_succeeded
            && !calls::thing(failure).is_empty()
            && failure.last_before_death_ms >= went_on_ms
    });
    let mut signatures: Vec<u64> = failures.map(signature).collect();
    signatures.sort_unstable();
    signatures.dedup();
    signatures.truncate(MOST);
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_is_not_done_without() {
        let failure = |path: &str, last_before_death_ms: f64| Failure {
            syscall: "openat".into(),
            errno: errno::ENOENT,
            path: path.into(),
            last_before_death_ms,
            ..Failure::default()
        };
        let evidence = Evidence {
            failures: vec![
                failure("/etc/optional", 59_000.0),
                failure("/data/wanted", 500.0),
                Failure { later_succeeded: true, ..failure("/run/late", 59_000.0) },
                failure("", 59_000.0),
            ],
            ..Evidence::default()
        };
        assert_eq!(done_without(&evidence, 30_000.0), [signature(&failure("/etc/optional", 0.0))]);
        assert_ne!(signature(&failure("/a", 0.0)), signature(&failure("/b", 0.0)));
        assert_eq!(signature(&failure("/a", 0.0)), 4_347_646_475_024_220_761, "kept by older versions");
    }
}

//! A crash for the tests of stores, within this crate and outside of it: the names are those of whoever takes the file in.

use super::{Assessment, NewCrash, UnixNanos, to_wire, v1};

pub(super) fn crash(sequence: u64, observed_at: i64) -> NewCrash {
    let container = v1::Container {
        id: format!("{sequence:064x}"),
        namespace: "prod".to_owned(),
        pod_name: format!("api-{}", sequence % 3),
        name: "app".to_owned(),
        ..v1::Container::default()
    };
    NewCrash {
        id: format!("node1/{}/{sequence}", "0".repeat(32)),
        report: v1::Crash {
            node: format!("node{}", sequence % 2),
            observed_at: Some(to_wire(UnixNanos(observed_at))),
            container: Some(v1::Container { id: container.id.clone(), ..v1::Container::default() }),
            ..v1::Crash::default()
        },
        assessment: Assessment {
            revision: 1,
            container,
            pod_state: None,
            diagnosis: v1::Diagnosis {
                cause: v1::Cause::OutOfMemory.into(),
                revision: 1,
                ..v1::Diagnosis::default()
            },
        },
    }
}

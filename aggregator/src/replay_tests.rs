//! The watch of a real node is replayed with a report of each end in it: none stays without its pod, whichever comes first.

use std::collections::BTreeMap;

use lastwords_proto::v1;

use crate::backoff::Policy;
use crate::healthy::Healthy;
use crate::pods::{Pod, Pods};
use crate::stated::tests::recorded;
use crate::{pair, time};

/// One end: what an agent reports that knows a container by its group alone, and the names of the pod and the container.
struct End {
    crash: v1::Crash,
    pod: String,
    container: String,
}

/// All ends that the status showed, by container id.
fn ends(states: &[Pod]) -> BTreeMap<String, End> {
    let mut pods = Pods::new(Policy::default());
    let mut ends = BTreeMap::new();
    for state in states {
        pods.apply(state.clone());
        for (name, history) in pods.by_uid(&state.uid).unwrap().histories() {
            for run in history.runs().iter().filter(|run| run.terminated.is_some()) {
                let container = v1::Container {
                    id: run.container_id.clone(),
                    pod_uid: state.uid.clone(),
                    ..v1::Container::default()
                };
                let crash = v1::Crash {
                    node: state.node.clone(),
                    observed_at: run.ended_at.map(time::to_wire),
                    container: Some(container),
                    ..v1::Crash::default()
                };
                let end = End { crash, pod: state.name.clone(), container: name.to_owned() };
                ends.insert(run.container_id.clone(), end);
            }
        }
    }
    ends
}

/// The reports that do not find their own pod and container, with what Kubernetes says of that end.
fn unpaired(ends: &BTreeMap<String, End>, pods: &Pods) -> Vec<String> {
    let paired = |end: &End| {
        let paired = pair::pair(&end.crash, None, pods, &Healthy::default())?;
        let own = paired.container.pod_name == end.pod && paired.container.name == end.container;
        (own && paired.context.container.terminated.is_some()).then_some(())
    };
    ends.values()
        .filter(|end| paired(end).is_none())
        .map(|end| format!("{}/{}", end.pod, end.container))
        .collect()
}

#[test]
fn no_end_of_the_recorded_watch_stays_without_its_pod() {
    let states = recorded();
    let ends = ends(&states);
    assert!(ends.len() > 80, "two cycles of most of 45 pods that crash: {}", ends.len());

    let mut pods_first = Pods::new(Policy::default());
    for state in &states {
        pods_first.apply(state.clone());
    }
    for end in ends.values() {
        pair::note(&end.crash, &mut pods_first);
    }
    assert_eq!(unpaired(&ends, &pods_first), [""; 0], "pods first");

    // Each report comes as soon as its pod exists at all, and so before the status shows the end.
    let mut reports_first = Pods::new(Policy::default());
    for state in &states {
        let is_new = reports_first.by_uid(&state.uid).is_none();
        reports_first.apply(state.clone());
        for end in ends.values().filter(|end| is_new && end.pod == state.name) {
            pair::note(&end.crash, &mut reports_first);
        }
    }
    assert_eq!(unpaired(&ends, &reports_first), [""; 0], "reports first");

    // The pods vanish, and the reports come from an agent that was cut off.
    let now = time::now();
    let mut gone = Pods::new(Policy::default());
    for state in &states {
        gone.apply(state.clone());
    }
    for state in &states {
        gone.delete(&state.uid, now);
    }
    assert_eq!(unpaired(&ends, &gone), [""; 0], "pods gone");
}

//! What a watched pod costs in memory. `LASTWORDS_PODS=100000 cargo test -p lastwords-aggregator --test memory -- --nocapture` prints it for
//! a large cluster; fewer pods are tried otherwise.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use lastwords_aggregator::backoff::Policy;
use lastwords_aggregator::kubernetes::KubernetesPod;
use lastwords_aggregator::pods::Pods;
use serde_json::{Value, json};

/// Pods of the usual run.
const FEW: usize = 5_000;
/// Twice what a pod of the recording takes: it bounds what one more field may cost before somebody looks.
const MOST_BYTES: usize = 16 << 10;

/// Memory of this process that is not shared with a file, in bytes.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn pod(recorded: &Value, number: usize) -> KubernetesPod {
    let mut pod = recorded.clone();
    pod["metadata"]["uid"] = json!(format!("{number:08x}-4926-49b8-b137-ec9788cf3086"));
    pod["metadata"]["name"] = json!(format!("payments-api-5cf575654b-{number:06}"));
    for (index, status) in pod["status"]["containerStatuses"].as_array_mut().unwrap().iter_mut().enumerate() {
        status["containerID"] = json!(format!("containerd://{:064x}", number * 10 + index));
        if let Some(last) = status.pointer_mut("/lastState/terminated") {
            last["containerID"] = json!(format!("containerd://{:064x}", (1 << 40) + number * 10 + index));
        }
    }
    serde_json::from_value(pod).unwrap()
}

#[test]
fn a_pod_costs_some_kilobytes() {
    let count = std::env::var("LASTWORDS_PODS").map_or(FEW, |count| count.parse().unwrap());
    let list: Value = serde_json::from_str(include_str!("fixtures/pods-1.36.json")).unwrap();
    let recorded = list["items"].as_array().unwrap();
    let mut pods = Pods::new(Policy::default());
    // What the first ones make the allocator take is no pod's.
    pods.apply(pod(&recorded[0], count).reduce());
    let before = anonymous();
    for (number, recorded) in (0..count).zip(recorded.iter().cycle()) {
        assert!(pods.apply(pod(recorded, number).reduce()));
    }
    let each = anonymous().saturating_sub(before) / count;
    println!("{count} pods: {each} bytes each, {} MiB in all", (each * count) >> 20);
    assert!(pods.by_container(&format!("{:064x}", 0)).is_some());
    assert!(each < MOST_BYTES, "{each} bytes for a pod");
}

//! What the pod's description adds to what failed: the volume behind a path, the container behind a port.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::Neighbour;
use lastwords_diagnosis::{PodContext, diagnose, errno};
use support::*;

#[test]
fn a_path_on_a_volume_names_what_it_is_made_of() {
    let app = || exited(&["/app"], 400, 1);
    let pod = in_pod(vec![app_settings()], Vec::new());
    let missing = with(app(), vec![failed("openat", errno::ENOENT, "/etc/app/app.yaml", 0.5)]);
    let diagnosis = diagnose(&missing, Some(&pod));
    assert_eq!(
        diagnosis.summary,
        "app did not find /etc/app/app.yaml (configmap app-settings, mounted at /etc/app): openat failed with ENOENT (no such file or directory) 500 µs before it ended with exit code 1"
    );
    assert_eq!(
        diagnosis.remedy,
        "add the key app.yaml to configmap app-settings (or to the items of the volume settings), which is mounted at /etc/app; or correct the path in spec.containers[1].args or spec.containers[1].env"
    );
    let refused = with(app(), vec![failed("openat", errno::EACCES, "/etc/app/app.yaml", 0.5)]);
    let summary = diagnose(&refused, Some(&pod)).summary;
    assert!(
        summary
            .contains("may not open /etc/app/app.yaml (configmap app-settings, mounted at /etc/app): openat"),
        "{summary}"
    );
}

#[test]
fn a_port_that_another_container_of_the_pod_has() {
    let holder = Holder {
        pid: 12,
        comm: "envoy".into(),
        container_id: "3f8a1c5d7e9b0a2c".into(),
        ..Holder::default()
    };
    let taken = Failure {
        holder: Some(holder),
        holder_looked_for: true,
        ..failed_at("bind", errno::EADDRINUSE, "0.0.0.0:8080/tcp", 0.5)
    };
    let neighbour = Neighbour {
        container_id: "3f8a1c5d7e9b0a2c".into(),
        container: "proxy".into(),
        pod: "api-7f9".into(),
        namespace: "shop".into(),
        same_pod: true,
    };
    let mut pod = PodContext { neighbours: vec![neighbour], ..in_pod(Vec::new(), Vec::new()) };
    let evidence = with(exited(&["/app"], 400, 1), vec![taken]);
    let diagnosis = diagnose(&evidence, Some(&pod));
    assert!(
        diagnosis
            .summary
            .contains("which is taken by envoy (pid 12) of the container proxy of the same pod:"),
        "{}",
        diagnosis.summary
    );
    pod.neighbours[0].same_pod = false;
    let summary = diagnose(&evidence, Some(&pod)).summary;
    assert!(summary.contains("by envoy (pid 12) of the container proxy of pod shop/api-7f9:"), "{summary}");
}

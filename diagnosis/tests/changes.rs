//! What was changed since a container last ran well, and what it does without when it runs well.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{Change, ChangeKind, ContainerContext};
use lastwords_diagnosis::signature::signature;
use lastwords_diagnosis::{EvidenceRef, PodContext, diagnose, errno};
use support::*;

fn pod(changes: &[(ChangeKind, &str, &str)]) -> PodContext {
    let change = |(kind, name, text): &(ChangeKind, &str, &str)| Change {
        kind: *kind,
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    };
    PodContext {
        changes: changes.iter().map(change).collect(),
        container: ContainerContext {
            field_path: "spec.containers[0]".into(),
            ..ContainerContext::default()
        },
        ..PodContext::default()
    }
}

const LISTEN: (ChangeKind, &str, &str) =
    (ChangeKind::Argument, "--lisen=:80", "spec.containers[0].args[--lisen]: added");
const HOST: (ChangeKind, &str, &str) =
    (ChangeKind::Variable, "DB_HOST", "spec.containers[0].env[DB_HOST]: changed");
const MOUNT: (ChangeKind, &str, &str) = (
    ChangeKind::Mount,
    "/etc/app",
    "spec.containers[0].volumeMounts[/etc/app]: configmap app-1 → configmap app-2",
);
const IMAGE: (ChangeKind, &str, &str) =
    (ChangeKind::Image, "image", "spec.containers[0].image: app:1 → app:2");

fn app() -> Evidence {
    exited(&["/app", "--lisen=:80"], 700, 1)
}

#[test]
fn the_change_explains_an_end_that_nothing_else_explains() {
    for (changes, expected) in [
        (vec![LISTEN], "INVALID_ARGUMENTS MEDIUM --lisen=:80"),
        (vec![HOST], "INVALID_ENVIRONMENT MEDIUM DB_HOST"),
        (vec![MOUNT], "INVALID_CONFIGURATION MEDIUM /etc/app"),
        (vec![LISTEN, HOST], "INVALID_ARGUMENTS LOW --lisen=:80"),
        (vec![IMAGE, LISTEN], "PROGRAM_ERROR MEDIUM exit code 1"),
        (vec![], "PROGRAM_ERROR LOW exit code 1"),
    ] {
        assert_eq!(verdict(&app(), Some(&pod(&changes))), expected, "{changes:?}");
    }
    let late = exited(&["/app", "--lisen=:80"], 60_000, 1);
    assert_eq!(verdict(&late, Some(&pod(&[LISTEN]))), "PROGRAM_ERROR MEDIUM exit code 1", "it had started");
    let refused = with(app(), vec![failed("openat", errno::EACCES, "/data/x", 0.5)]);
    assert_eq!(
        verdict(&refused, Some(&pod(&[LISTEN]))),
        "PERMISSION_DENIED HIGH /data/x",
        "evidence comes first"
    );
}

#[test]
fn a_file_of_a_mount_that_was_changed() {
    let mut evidence = app();
    evidence.opened_files = vec![OpenedFile {
        path: "/etc/app/app.yaml".into(),
        before_death_ms: 600.0,
        ..OpenedFile::default()
    }];
    assert_eq!(verdict(&evidence, Some(&pod(&[MOUNT]))), "INVALID_CONFIGURATION MEDIUM /etc/app/app.yaml");
}

#[test]
fn a_variable_that_was_changed_is_at_fault_before_its_server() {
    let refused = Failure {
        variables: vec!["DB_HOST".into()],
        ..failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 3.0)
    };
    let evidence = with(app(), vec![refused]);
    assert_eq!(verdict(&evidence, Some(&pod(&[]))), "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp");
    let diagnosis = diagnose(&evidence, Some(&pod(&[HOST])));
    assert_eq!(short(&diagnosis), "INVALID_ENVIRONMENT MEDIUM DB_HOST");
    assert_eq!(
        diagnosis.summary,
        "the variable DB_HOST names 10.0.0.9:5432/tcp, and connect failed with ECONNREFUSED (connection refused) 3.0 ms before it ended with exit code 1, and was changed since the container last ran well"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Failure(0), EvidenceRef::Exit, EvidenceRef::Change(0)]);
}

#[test]
fn the_sentence_tells_the_change() {
    let diagnosis = diagnose(&app(), Some(&pod(&[LISTEN])));
    assert_eq!(
        diagnosis.summary,
        "app ended itself with exit code 1 after 700 ms, and no call failed that would explain it; since it last ran well this was changed: spec.containers[0].args[--lisen]: added"
    );
    assert_eq!(
        diagnosis.remedy,
        "correct --lisen=:80 in spec.containers[0].args (or spec.containers[0].command), or take that change back"
    );
    let diagnosis = diagnose(&app(), Some(&pod(&[IMAGE])));
    assert_eq!(
        diagnosis.summary,
        "app ended itself with exit code 1 after 700 ms, and no call that failed before explains it; since it last ran well its image was changed: spec.containers[0].image: app:1 → app:2"
    );
}

#[test]
fn what_it_does_without_when_it_runs_well_is_not_why_it_ended() {
    let optional = failed("openat", errno::ENOENT, "/etc/app/extra.yaml", 0.5);
    let evidence = with(exited(&["/app"], 700, 1), vec![optional.clone()]);
    assert_eq!(verdict(&evidence, Some(&pod(&[]))), "FILE_NOT_FOUND MEDIUM /etc/app/extra.yaml");
    let learned = PodContext { harmless: vec![signature(&optional)], ..pod(&[]) };
    assert_eq!(verdict(&evidence, Some(&learned)), "PROGRAM_ERROR LOW exit code 1");
    let another = with(evidence, vec![Failure { path: "/etc/app/app.yaml".into(), ..optional }]);
    assert_eq!(verdict(&another, Some(&learned)), "FILE_NOT_FOUND MEDIUM /etc/app/app.yaml");
}

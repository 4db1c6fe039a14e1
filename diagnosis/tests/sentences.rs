//! What the person on call reads: whole sentences, one death of each kind.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Mount};
use lastwords_diagnosis::{EvidenceRef, PodContext, diagnose, errno, signals};
use support::*;

#[test]
fn memory() {
    let mut evidence =
        signalled(&["python3", "eat.py"], 800, signals::SIGKILL, by(SenderKind::OomKiller, "", 0));
    evidence.oom = vec![oom(OomScope::Container, 20 << 20, true, 3, evidence.observed_at)];
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "killed by the kernel's OOM killer at the container's limit of 20Mi; python3 held 19.1Mi of it"
    );
    assert_eq!(
        diagnosis.remedy,
        "raise spec.containers[0].resources.limits.memory, or make the program use less"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Oom(0), EvidenceRef::Exit]);
}

#[test]
fn memory_of_a_child() {
    let mut evidence = exited(&["sh", "-c", "python3 eat.py; exit $?"], 900, 137);
    evidence.oom = vec![oom(OomScope::Container, 20 << 20, false, 300, evidence.observed_at)];
    evidence.child_exits = vec![child_exit("python3", 0, signals::SIGKILL, 2.0)];
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "the kernel's OOM killer killed python3 (pid 107) at the container's limit of 20Mi, when it held 19.1Mi of it; sh ended 300 ms later with exit code 137"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Oom(0), EvidenceRef::ChildExit(0), EvidenceRef::Exit]);
}

#[test]
fn permission() {
    let mut evidence = exited(&["cat", "/etc/shadow"], 2, 1);
    evidence.failures = vec![failed("access", errno::ENOENT, "/etc/ld.so.preload", 1.5), shadow(0.4)];
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "app (uid 4242) may not open /etc/shadow, which belongs to 0:42 with mode 0640: openat failed with EACCES (permission denied) 400 µs before it ended with exit code 1"
    );
    assert_eq!(
        diagnosis.remedy,
        "give uid 4242 access to /etc/shadow (chown or chmod it in the image; for a volume set spec.securityContext.fsGroup), or set spec.containers[0].securityContext.runAsUser to a user that has it"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Failure(1), EvidenceRef::Exit]);
}

#[test]
fn a_folder_that_bars_the_way() {
    let mut evidence = exited(&["app"], 20, 1);
    evidence.failures = vec![Failure {
        file: Some(FileFacts {
            mode: 0o700,
            kind: "directory".into(),
            path: "/secret".into(),
            ..FileFacts::default()
        }),
        ..failed("openat", errno::EACCES, "/secret/key", 0.4)
    }];
    assert_eq!(
        diagnose(&evidence, None).summary,
        "app (uid 4242) may not open /secret/key below the directory /secret, which belongs to 0:0 with mode 0700: openat failed with EACCES (permission denied) 400 µs before it ended with exit code 1"
    );
}

#[test]
fn a_missing_file() {
    let mut evidence = exited(&["app"], 40, 1);
    evidence.failures = vec![failed("openat", errno::ENOENT, "/etc/app/app.yaml", 0.6)];
    assert_eq!(
        diagnose(&evidence, None).summary,
        "app did not find /etc/app/app.yaml: openat failed with ENOENT (no such file or directory) 600 µs before it ended with exit code 1"
    );
}

#[test]
fn what_was_done_without_is_told_where_nothing_explains_the_end() {
    let mut evidence = exited(&["app"], 400, 12);
    evidence.failures = vec![
        failed("openat", errno::EACCES, "/var/log/app.log", 380.0),
        failed("openat", errno::ENOENT, "/etc/app/plug-ins.yaml", 370.0),
    ];
    let it = diagnose(&evidence, None);
    assert_eq!(
        it.summary,
        "app ended itself with exit code 12 after 400 ms, and no call that failed before explains it; so early, a wrong argument, variable or setting is as likely as a bug; 380 ms before that it had done without /var/log/app.log: openat failed with EACCES (permission denied)"
    );
    assert_eq!(it.evidence, [EvidenceRef::Exit, EvidenceRef::Failure(0)]);
    evidence.failures = vec![failed("newfstatat", errno::ENOENT, "/etc/app/plug-ins.yaml", 370.0)];
    assert!(diagnose(&evidence, None).summary.ends_with("as likely as a bug"), "it had only looked");
}

#[test]
fn a_missing_interpreter() {
    let mut evidence = exited(&["/run.sh"], 1, 127);
    evidence.execs.clear();
    evidence.process = None;
    evidence.failures = vec![Failure {
        file: Some(FileFacts {
            mode: 0o755,
            kind: "file".into(),
            path: "/run.sh".into(),
            ..FileFacts::default()
        }),
        ..failed("execve", errno::ENOENT, "/run.sh", 0.1)
    }];
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "the container's command /run.sh could not be started: the file is there but the interpreter or loader that it names is not; execve failed with ENOENT (no such file or directory)"
    );
    assert!(diagnosis.remedy.contains("carriage return"), "{}", diagnosis.remedy);
}

#[test]
fn why_a_program_cannot_be_executed() {
    let file = |interpreter: &str, machine: &str, node_machine: &str| FileFacts {
        mode: 0o755,
        kind: "file".into(),
        path: "/app".into(),
        interpreter: interpreter.into(),
        interpreter_missing: !interpreter.is_empty(),
        machine: machine.into(),
        node_machine: node_machine.into(),
        ..FileFacts::default()
    };
    for (number, facts, why, fix) in [
        (
            errno::ENOENT,
            file("/bin/bash", "", ""),
            "its interpreter /bin/bash does not exist in the image",
            "install /bin/bash",
        ),
        (
            errno::ENOENT,
            file("/bin/sh\\x0d", "", ""),
            "asks for an interpreter called /bin/sh\\r",
            "line ends of Unix",
        ),
        (
            errno::ENOENT,
            file("/lib/ld-musl-x86_64.so.1", "x86-64", "x86-64"),
            "the loader /lib/ld-musl-x86_64.so.1 that it was linked with does not exist in the image",
            "C library",
        ),
        (
            errno::ENOEXEC,
            file("", "aarch64", "x86-64"),
            "it is for aarch64, the node is x86-64",
            "build the image for linux/amd64",
        ),
        (errno::ENOEXEC, file("", "x86-64", "x86-64"), "cut off or damaged", "anew"),
        (errno::ENOEXEC, file("", "", ""), "it is no program", "#!/bin/sh"),
        (errno::EACCES, file("", "", ""), "its mode 0755 lets uid 4242 execute it", "without noexec"),
    ] {
        let mut evidence = exited(&["/app"], 1, 127);
        evidence.execs.clear();
        evidence.failures = vec![Failure { file: Some(facts), ..failed("execve", number, "/app", 0.1) }];
        let diagnosis = diagnose(&evidence, None);
        assert!(diagnosis.summary.contains(why), "{}", diagnosis.summary);
        assert!(diagnosis.remedy.contains(fix), "{}", diagnosis.remedy);
        assert_eq!(diagnosis.object, "/app");
    }
}

#[test]
fn a_library_that_is_not_there() {
    let mut evidence = exited(&["/app/server"], 3, 127);
    evidence.failures = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib"]
        .into_iter()
        .map(|folder| failed("openat", errno::ENOENT, &format!("{folder}/libssl.so.3"), 0.4))
        .collect();
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "the loader could not find libssl.so.3 that /app/server needs: it looked in 3 places and left with exit code 127"
    );
    // What a program looks for long after its start is a plug-in.
    let late = UnixNanos(evidence.process.as_ref().unwrap().exited_at.0 - 60_000_000_000);
    evidence.execs.iter_mut().for_each(|exec| exec.time = late);
    assert_ne!(diagnose(&evidence, None).object, "libssl.so.3");
}

#[test]
fn a_read_only_mount_names_its_volume() {
    let mut evidence = exited(&["app"], 40, 1);
    evidence.failures = vec![failed("openat", errno::EROFS, "/etc/app/state", 0.6)];
    let mount = |path: &str, source: &str, read_only| Mount {
        path: path.into(),
        volume: "v".into(),
        source: source.into(),
        read_only,
    };
    let remedy = |mounts: Vec<Mount>| {
        let container = ContainerContext {
            field_path: "spec.containers[0]".into(),
            mounts,
            ..ContainerContext::default()
        };
        diagnose(&evidence, Some(&PodContext { container, ..PodContext::default() })).remedy
    };
    assert_eq!(
        remedy(vec![mount("/etc", "emptyDir", false), mount("/etc/app", "configmap app-settings", false)]),
        "/etc/app is a configmap app-settings, which is always read-only: copy it to an emptyDir first (an init container, or the program's own start), or write elsewhere"
    );
    assert_eq!(
        remedy(vec![mount("/etc/app/", "persistentvolumeclaim data", true)]),
        "the volume mount /etc/app/ (persistentvolumeclaim data) is readOnly: set spec.containers[0].volumeMounts[].readOnly to false, or write elsewhere"
    );
    assert_eq!(
        remedy(vec![mount("/etc/application", "emptyDir", false)]),
        "mount an emptyDir or another writable volume at /etc/app (spec.containers[0].volumeMounts), or set spec.containers[0].securityContext.readOnlyRootFilesystem to false"
    );
}

#[test]
fn a_stop_that_was_ignored() {
    let mut evidence =
        signalled(&["sleep", "99"], 30_000, signals::SIGKILL, by(SenderKind::Runtime, "runc", 56));
    let asked = sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 55), 10_000.0);
    evidence.signals.insert(0, Signal { delivered: false, ..asked });
    assert_eq!(
        diagnose(&evidence, None).summary,
        "sleep was ended by SIGKILL from runc (pid 56); 10.0 s before it had been asked to stop by SIGTERM and ignored it, having no handler for it as PID 1"
    );
}

#[test]
fn abort_of_pid_1() {
    let mut evidence = signalled(&["app"], 70, signals::SIGSEGV, by(SenderKind::Kernel, "", 0));
    let own = by(SenderKind::SameContainer, "app", MAIN);
    evidence.signals.insert(0, Signal { delivered: false, ..sent(signals::SIGABRT, -6, own, 0.4) });
    assert_eq!(
        diagnose(&evidence, None).summary,
        "app aborted itself (SIGABRT); as PID 1 it ignores that signal, so abort() ended it by a deliberate fault (SIGSEGV)"
    );
}

#[test]
fn what_lost_is_listed_and_hostile_names_stay_on_one_line() {
    let mut evidence = signalled(&["app"], 70, signals::SIGSEGV, by(SenderKind::Kernel, "", 0));
    evidence.signals = vec![sent(signals::SIGSEGV, 1, by(SenderKind::Kernel, "", 0), 0.1)];
    evidence.failures = vec![failed("openat", errno::EACCES, "/a\n\x1b[2J", 0.4)];
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(diagnosis.also_seen.len(), 1);
    assert!(
        diagnosis.also_seen[0].starts_with("/a\\x0a\\x1b[2J: app (uid 4242) may not open"),
        "{:?}",
        diagnosis.also_seen
    );
}

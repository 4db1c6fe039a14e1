//! Programs that could not be started, by the container's own or by its runtime: the evidence, and the cause, confidence and object that must come out.

mod support;

use lastwords_diagnosis::errno;
use lastwords_diagnosis::evidence::*;
use support::*;

#[test]
fn starting_programs() {
    let never = |failure: Failure| {
        let mut evidence = with(exited(&["/no/such"], 1, 127), vec![failure]);
        evidence.execs.clear();
        evidence.process = None;
        evidence
    };
    let script =
        FileFacts { mode: 0o755, kind: "file".into(), path: "/run.sh".into(), ..FileFacts::default() };
    check(vec![
        (
            "a missing command",
            never(failed("execve", errno::ENOENT, "/no/such", 0.1)),
            "EXEC_FAILED HIGH /no/such",
        ),
        (
            "a missing command, nothing known of an end",
            Evidence { exit: None, ..never(failed("execve", errno::ENOENT, "/no/such", 0.1)) },
            "EXEC_FAILED HIGH /no/such",
        ),
        (
            "a missing interpreter",
            never(Failure { file: Some(script), ..failed("execve", errno::ENOENT, "/run.sh", 0.1) }),
            "EXEC_FAILED HIGH /run.sh",
        ),
        (
            "not executable",
            never(failed("execve", errno::EACCES, "/etc/passwd", 0.1)),
            "EXEC_FAILED HIGH /etc/passwd",
        ),
        ("another machine's", never(failed("execve", errno::ENOEXEC, "/arm", 0.1)), "EXEC_FAILED HIGH /arm"),
        (
            "env finds it in no folder",
            with(
                exited(&["env", "nosuch"], 3, 127),
                ["/usr/local/bin", "/usr/bin", "/bin"]
                    .iter()
                    .zip([0.5, 0.4, 0.3])
                    .map(|(folder, before)| {
                        failed("execve", errno::ENOENT, &format!("{folder}/nosuch"), before)
                    })
                    .collect(),
            ),
            "EXEC_FAILED HIGH nosuch",
        ),
        (
            "a shell asks for it in every folder",
            with(
                exited(&["sh", "-c", "nosuch"], 3, 127),
                ["/usr/local/bin", "/usr/bin", "/bin"]
                    .iter()
                    .zip([0.5, 0.4, 0.3])
                    .map(|(folder, before)| {
                        failed("newfstatat", errno::ENOENT, &format!("{folder}/nosuch"), before)
                    })
                    .collect(),
            ),
            "EXEC_FAILED HIGH nosuch",
        ),
        (
            "a child made to execute something that is nowhere",
            {
                let tried =
                    ["/usr/local/bin/nosuch", "/usr/bin/nosuch", "/bin/nosuch"].iter().zip([0.9, 0.8, 0.7]);
                let calls =
                    tried.map(|(path, before)| by_child(failed("execve", errno::ENOENT, path, before)));
                let mut evidence = with(exited(&["python3", "run.py"], 60, 1), calls.collect());
                evidence.child_exits = vec![child_exit("python3", 255, 0, 0.5)];
                evidence
            },
            "EXEC_FAILED MEDIUM nosuch",
        ),
        (
            "an entrypoint script whose program is not executable",
            with(
                exited(&["/entrypoint.sh"], 9, 126),
                vec![failed("execve", errno::EACCES, "/app/server", 0.4)],
            ),
            "EXEC_FAILED HIGH /app/server",
        ),
        (
            "found in the third folder of PATH, then a failure of its own",
            with(
                exited(&["app"], 50, 1),
                vec![
                    failed("execve", errno::ENOENT, "/usr/local/bin/app", 49.9),
                    failed("execve", errno::ENOENT, "/usr/bin/app", 49.8),
                    shadow(0.5),
                ],
            ),
            "PERMISSION_DENIED HIGH /etc/shadow",
        ),
    ]);
}

#[test]
fn the_runtimes_own_calls() {
    let gave_up = |failures: Vec<Failure>| {
        let mut evidence = with(exited(&["runc"], 0, 0), failures);
        (evidence.process, evidence.exit) = (None, None);
        evidence.execs.clear();
        evidence.child_exits = vec![child_exit("runc:[2:INIT]", 1, 0, 1.5)];
        evidence
    };
    let looked = |path: &str, before| failed("newfstatat", errno::ENOENT, path, before);
    let groups = || failed("openat", errno::ENOENT, "/etc/group", 1.9);
    check(vec![
        (
            "it did not find the command",
            gave_up(vec![groups(), looked("/no/program", 1.7)]),
            "EXEC_FAILED MEDIUM /no/program",
        ),
        (
            "in no folder of PATH",
            gave_up(vec![groups(), looked("/bin/nosuch", 1.73), looked("/usr/bin/nosuch", 1.72)]),
            "EXEC_FAILED MEDIUM nosuch",
        ),
        (
            "it found the command, which is not executable: no call fails for it",
            gave_up(vec![looked("/proc/kcore", 8.8)]),
            "CONTAINER_CREATE_ERROR LOW container runtime",
        ),
        (
            "a mount that does not fit",
            gave_up(vec![
                looked("/run/rootfs/sys/fs/cgroup/pids", 12.0),
                failed("mount", errno::ENOTDIR, "/proc/self/fd/6", 5.5),
            ]),
            "CONTAINER_CREATE_ERROR MEDIUM /proc/self/fd/6",
        ),
    ]);
}

#[test]
fn what_a_child_was_to_become_and_was_not() {
    let started = |comm: &str, ended_before_ms: f64, failed_before_ms: f64| {
        let tried = Failure {
            comm: comm.to_owned(),
            ..by_child(failed("execve", errno::ENOENT, "/opt/convert", failed_before_ms))
        };
        let mut evidence = with(exited(&[comm, "/srv/main"], 900, 1), vec![tried]);
        evidence.child_exits = vec![child_exit(comm, 255, 0, ended_before_ms)];
        evidence
    };
    check(vec![
        (
            "its parent takes its time to leave",
            started("python3", 300.0, 301.0),
            "EXEC_FAILED MEDIUM /opt/convert",
        ),
        ("a shell goes on at once", started("sh", 300.0, 301.0), "PROGRAM_ERROR LOW exit code 1"),
        ("the child went on without", started("python3", 300.0, 340.0), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

//! What deaths of daemons, tools and small applications got wrong at first, written by who had read no rule: for each rule that came of them
//! what it must tell, and what is like that and must not be told so.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno};
use support::*;

/// Id of a child of the main process's child.
const GRANDCHILD: u32 = CHILD + 1;

fn absent(path: &str, before_death_ms: f64) -> Failure {
    failed("openat", errno::ENOENT, path, before_death_ms)
}

#[test]
fn an_end_that_is_passed_up_through_two_processes() {
    let rsync = |failure: Failure, code, ended_before_ms| {
        let failure = Failure { tid: GRANDCHILD, pid: GRANDCHILD, by_dying_thread: false, ..failure };
        let mut evidence = with(exited(&["rsync", "-a", "/source/", "/backup/"], 800, 11), vec![failure]);
        evidence.child_exits = vec![
            ChildExit { pid: GRANDCHILD, ..child_exit("rsync", code, 0, ended_before_ms) },
            child_exit("rsync", 11, 0, 0.5),
        ];
        evidence
    };
    let full = || failed("write", errno::ENOSPC, "/backup/.dump.sql.mAyxJQ", 40.0);
    let missing = |before| absent("/etc/filters", before);
    check(vec![
        (
            "the end of its own child's child",
            rsync(full(), 11, 1.4),
            "DISK_FULL HIGH /backup/.dump.sql.mAyxJQ",
        ),
        (
            "with another code: nobody passed that on",
            rsync(full(), 12, 1.4),
            "DISK_FULL MEDIUM /backup/.dump.sql.mAyxJQ",
        ),
        ("a file that it did not find", rsync(missing(40.0), 11, 20.0), "FILE_NOT_FOUND MEDIUM /etc/filters"),
        (
            "with another code: it may have done without",
            rsync(missing(40.0), 12, 20.0),
            "FILE_NOT_FOUND LOW /etc/filters",
        ),
        (
            "so long before that something else was done in between",
            rsync(missing(240.0), 11, 220.0),
            "PROGRAM_ERROR LOW exit code 11",
        ),
    ]);
}

#[test]
fn no_older_call_is_made_in_the_place_of_clone3_where_a_filter_forbids_it() {
    let refused = |syscall| {
        let failure =
            Failure { seccomp: Seccomp::Undecided, uid: 0, ..failed(syscall, errno::EPERM, "", 9.8) };
        with(exited(&["app"], 50, 1), vec![failure])
    };
    check(vec![
        ("no thread can be started", refused("clone3"), "SECCOMP_DENIED MEDIUM clone3"),
        ("files are copied otherwise", refused("copy_file_range"), "PROGRAM_ERROR LOW exit code 1"),
        ("files are closed otherwise", refused("close_range"), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn who_reports_a_crash_looks_for_the_files_of_every_distribution() {
    let looked = |paths: &[&str]| {
        let failures = paths.iter().zip([0.9, 0.8, 0.7]).map(|(path, before)| absent(path, before));
        with(exited(&["app"], 50, 1), failures.collect())
    };
    check(vec![
        (
            "one after the other",
            looked(&["/etc/gentoo-release", "/etc/angstrom-version", "/etc/slackware_version"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "beside what it needed",
            looked(&["/srv/key", "/etc/gentoo-release", "/etc/system-release"]),
            "FILE_NOT_FOUND MEDIUM /srv/key",
        ),
        (
            "of one that is its own",
            looked(&["/etc/app/schema-version"]),
            "FILE_NOT_FOUND MEDIUM /etc/app/schema-version",
        ),
        ("that is no file", looked(&["/etc/releases.yaml"]), "FILE_NOT_FOUND MEDIUM /etc/releases.yaml"),
    ]);
}

#[test]
fn perl_cannot_locate_methods_either() {
    let perl = |line: &str| logged(exited(&["perl", "/srv/report.pl"], 1_000, 255), &[line]);
    check(vec![
        (
            "a method",
            perl(r#"Can't locate object method "rendr" via package "Report" at /srv/report.pl line 9."#),
            "PROGRAM_ERROR LOW exit code 255",
        ),
        (
            "a module",
            perl("Can't locate Report/Xml.pm in @INC (you may need to install it) at /srv/report.pl line 2."),
            "FILE_NOT_FOUND MEDIUM Report/Xml.pm",
        ),
    ]);
}

#[test]
fn ruby_looks_for_a_library_after_the_source_of_that_name() {
    let ruby = |looked: Vec<Failure>| {
        let before = [absent("/app/.bundle/config", 18.0), absent("/app/Gemfile", 17.0)];
        with(exited(&["ruby", "/app/app.rb"], 170, 1), before.into_iter().chain(looked).collect())
    };
    let library = || absent("/app/lib/worker.so", 16.12);
    let source = |before| absent("/app/lib/worker.rb", before);
    check(vec![
        (
            "neither is there",
            ruby(vec![source(16.13), library()]),
            "FILE_NOT_FOUND MEDIUM /app/lib/worker.rb",
        ),
        (
            "the library alone, beside others that were missing",
            ruby(vec![library()]),
            "FILE_NOT_FOUND LOW /app/lib/worker.so",
        ),
        (
            "a source of that name long before",
            ruby(vec![source(30.0), library()]),
            "FILE_NOT_FOUND LOW /app/lib/worker.so",
        ),
        (
            "a source of another name",
            ruby(vec![absent("/app/lib/jobs.rb", 16.13), library()]),
            "FILE_NOT_FOUND LOW /app/lib/worker.so",
        ),
        (
            "a child's, after which the main process left with a code of its own",
            Evidence {
                child_exits: vec![child_exit("ruby", 3, 0, 1.0)],
                ..with(
                    exited(&["ruby", "/app/app.rb"], 170, 1),
                    vec![by_child(source(16.13)), by_child(library())],
                )
            },
            "FILE_NOT_FOUND LOW /app/lib/worker.rb",
        ),
        (
            "another thread's",
            ruby(vec![by_other_thread(source(16.13)), library()]),
            "FILE_NOT_FOUND LOW /app/lib/worker.so",
        ),
    ]);
}

#[test]
fn dev_null_is_no_configuration() {
    let app = |argument: &str| exited(&["app", argument], 900, 1);
    check(vec![
        ("none is wanted", app("--config=/dev/null"), "PROGRAM_ERROR LOW exit code 1"),
        ("one is", app("--config=/srv/app"), "INVALID_CONFIGURATION LOW /srv/app"),
    ]);
}

#[test]
fn a_shell_that_is_not_to_overwrite_a_lock_file_says_so() {
    let script = |path: &str, life_ms| {
        let line = format!("/srv/backup.sh: line 2: {path}: cannot overwrite existing file");
        logged(exited(&["bash", "/srv/backup.sh"], life_ms, 1), &[&line, "another backup is running"])
    };
    check(vec![
        ("a lock", script("/run/backup.lock", 2), "FILE_LOCKED MEDIUM /run/backup.lock"),
        ("a pid file", script("/run/backup.pid", 2), "FILE_LOCKED MEDIUM /run/backup.pid"),
        ("a file of another kind", script("/data/report.csv", 2), "PROGRAM_ERROR LOW exit code 1"),
        ("after much work", script("/run/backup.lock", 20_000), "PROGRAM_ERROR MEDIUM exit code 1"),
        (
            "before a call that tells more",
            with(script("/run/backup.lock", 90), vec![shadow(0.5)]),
            "PERMISSION_DENIED HIGH /etc/shadow",
        ),
    ]);
    let diagnosis = diagnose(&script("/run/backup.lock", 2), None);
    assert_eq!(
        diagnosis.summary,
        "bash ended itself with exit code 1 after 2.0 ms; its log says that its lock file /run/backup.lock is there already: \"/srv/backup.sh: line 2: /run/backup.lock: cannot overwrite existing file\""
    );
    assert!(diagnosis.remedy.contains("remove it before the program starts"), "{}", diagnosis.remedy);
}

#[test]
fn a_limit_on_open_files_that_may_not_be_raised() {
    const SAID: &str = "[ALERT] (1) : [haproxy.main()] Cannot raise FD limit to 40017, limit is 64.";
    let raised = |uid, seccomp| Failure { uid, seccomp, ..failed("prlimit64", errno::EPERM, "", 0.7) };
    let proxy = |failure: Failure, line: &str| {
        logged(with(exited(&["haproxy", "-db"], 3_000, 1), vec![failure]), &[line])
    };
    let of_user = || raised(1_000, Seccomp::NoFilter);
    check(vec![
        ("its log says which", proxy(of_user(), SAID), "RESOURCE_LIMIT MEDIUM RLIMIT_NOFILE"),
        (
            "by the older call",
            proxy(Failure { syscall: "setrlimit".into(), ..of_user() }, SAID),
            "RESOURCE_LIMIT MEDIUM RLIMIT_NOFILE",
        ),
        (
            "its log says nothing of it",
            proxy(of_user(), "leaving"),
            "PERMISSION_DENIED MEDIUM CAP_SYS_RESOURCE",
        ),
        (
            "its log says that it goes on with fewer",
            proxy(of_user(), "cannot raise the limit on open files, continuing with 64"),
            "PERMISSION_DENIED MEDIUM CAP_SYS_RESOURCE",
        ),
        (
            "root lacks the capability",
            proxy(raised(0, Seccomp::NoFilter), SAID),
            "PERMISSION_DENIED MEDIUM CAP_SYS_RESOURCE",
        ),
        (
            "a filter refused it",
            proxy(raised(1_000, Seccomp::Denied), SAID),
            "SECCOMP_DENIED MEDIUM prlimit64",
        ),
    ]);
}

//! What containers are really started with: init programs, Java's launcher, watchdogs, folders of frameworks.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno, signals};
use support::*;

#[test]
fn a_childs_fault_that_another_process_sent_is_a_kill() {
    let passed_on = |code, sender: Option<KilledBy>| {
        let mut evidence = exited(&["tini", "--", "app"], 900, 139);
        evidence.child_exits = vec![child_exit("app", 0, signals::SIGSEGV, 3.0)];
        let signal = sent(signals::SIGSEGV, code, sender, 3.2);
        evidence.signals = vec![Signal { target_pid: CHILD, to_main: false, ..signal }];
        diagnose(&evidence, None)
    };
    let watchdog = || by(SenderKind::SameContainer, "watchdog", MAIN + 20);
    let killed = passed_on(0, watchdog());
    assert_eq!(short(&killed), format!("KILLED HIGH SIGSEGV from watchdog (pid {})", MAIN + 20));
    // The kernel's own, its own, and one of which nothing is known.
    assert_eq!(short(&passed_on(1, by(SenderKind::Kernel, "", 0))), "PROGRAM_ERROR HIGH SIGSEGV at 0x0");
    assert_eq!(
        short(&passed_on(-6, by(SenderKind::SameContainer, "app", CHILD))),
        "PROGRAM_ERROR HIGH SIGSEGV"
    );
    assert_eq!(short(&passed_on(0, by(SenderKind::Unknown, "", 0))), "PROGRAM_ERROR HIGH SIGSEGV");
}

#[test]
fn the_thread_of_a_java_main_method_ends_the_program() {
    let refused = |comm: &str| Failure {
        comm: comm.into(),
        ..by_other_thread(failed("openat", errno::EACCES, "/data/journal", 9.0))
    };
    let java = || exited(&["java", "-jar", "/app/app.jar"], 800, 1);
    assert_eq!(verdict(&with(java(), vec![refused("java")]), None), "PERMISSION_DENIED HIGH /data/journal");
    // A thread that the JVM named, and an end by System.exit: another thread may have had another reason.
    let expected = "PERMISSION_DENIED MEDIUM /data/journal";
    assert_eq!(verdict(&with(java(), vec![refused("pool-1-thread-1")]), None), expected);
    let mut by_exit = java();
    by_exit.exit.as_mut().unwrap().tid = MAIN + 9;
    assert_eq!(verdict(&with(by_exit, vec![refused("java")]), None), expected);
}

#[test]
fn an_applications_own_hidden_folder_is_needed() {
    let refused = |syscall: &str, number, path: &str| {
        with(exited(&["node", "/app/server.js"], 300, 1), vec![failed(syscall, number, path, 0.8)])
    };
    check(vec![
        (
            "a framework's",
            refused("mkdir", errno::EROFS, "/app/.next/cache"),
            "READ_ONLY_FILESYSTEM MEDIUM /app/.next/cache",
        ),
        (
            "not its own",
            refused("mkdir", errno::EACCES, "/app/.next/cache"),
            "PERMISSION_DENIED MEDIUM /app/.next/cache",
        ),
        ("a user's", refused("mkdir", errno::EROFS, "/root/.cache/node"), "PROGRAM_ERROR LOW exit code 1"),
        ("no home at all", refused("mkdir", errno::EACCES, "/.npm"), "PROGRAM_ERROR LOW exit code 1"),
        ("only read", refused("openat", errno::EACCES, "/app/.next/trace"), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn what_a_program_writes_itself_stands_behind_what_a_person_wrote() {
    let postgres =
        |files: &[(&str, f64)]| verdict(&read(exited(&["postgres", "-D", "/data"], 60, 1), files), None);
    let by_hand = ("/data/postgresql.conf", 3.0);
    let own = ("/data/postgresql.auto.conf", 2.0);
    let expected = "INVALID_CONFIGURATION MEDIUM /data/postgresql.conf";
    assert_eq!(postgres(&[by_hand, own]), expected);
    assert_eq!(postgres(&[by_hand]), expected);
    assert_eq!(postgres(&[own]), "INVALID_CONFIGURATION MEDIUM /data/postgresql.auto.conf");
}

#[test]
fn of_the_options_of_a_jvm_its_flags_come_first() {
    let args = ["java", "-Xmx64m", "-Dname=x", "-XX:+UseShenandoahGG", "-jar", "/app/app.jar"];
    let refused = diagnose(&exited(&args, 12, 1), None);
    assert_eq!(short(&refused), "INVALID_ARGUMENTS LOW -XX:+UseShenandoahGG");
    assert!(
        refused.summary.contains("it was given 3 options, -XX:+UseShenandoahGG among them"),
        "{}",
        refused.summary
    );
    let sizes = diagnose(&exited(&["java", "-Dname=x", "-Xmx64q", "-jar", "/app/app.jar"], 12, 1), None);
    assert_eq!(short(&sizes), "INVALID_ARGUMENTS LOW -Xmx64q");
}

#[test]
fn the_command_behind_an_init_program_has_the_options() {
    let said = |args: &[&str]| short(&diagnose(&exited(args, 9, 2), None));
    assert_eq!(said(&["tini", "-g", "--", "app", "--lisen=80"]), "INVALID_ARGUMENTS MEDIUM --lisen=80");
    assert_eq!(said(&["dumb-init", "app", "--lisen=80"]), "INVALID_ARGUMENTS MEDIUM --lisen=80");
}

#[test]
fn a_letter_that_getopts_does_not_know() {
    let mut evidence = exited(&["bash", "/app/run.sh", "-p", "8080", "-M", "x"], 40, 1);
    evidence.process.as_mut().unwrap().unknown_options = vec!["-M".into()];
    let said = diagnose(&evidence, None);
    assert_eq!(short(&said), "INVALID_ARGUMENTS MEDIUM -M");
    assert!(said.summary.contains("not among those that its script gives to getopts"), "{}", said.summary);
}

#[test]
fn a_request_to_stop_that_was_done_as_it_was_asked() {
    let mut evidence = exited(&["app"], 40_000, 0);
    evidence.signals = vec![sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 4), 300.0)];
    let said = diagnose(&evidence, None);
    assert_eq!(short(&said), "COMPLETED MEDIUM exit code 0");
    assert!(
        said.remedy.starts_with("it did as it was asked; the container runtime stopped it"),
        "{}",
        said.remedy
    );
}

#[test]
fn an_init_program_that_does_not_know_its_own_option() {
    let args = ["dumb-init", "--rewriet=15:3", "app", "--port=80"];
    let said = "dumb-init: unrecognized option '--rewriet=15:3'";
    assert_eq!(verdict(&logged(exited(&args, 3, 1), &[said]), None), "INVALID_ARGUMENTS HIGH --rewriet=15:3");
}

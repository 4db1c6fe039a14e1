//! Deaths that a file explains, one that may not be used or is not there: the evidence, and the cause, confidence and object that must come out.

mod support;

use lastwords_diagnosis::errno;
use lastwords_diagnosis::evidence::*;
use support::*;

#[test]
fn permission() {
    let cat = || exited(&["cat", "/etc/shadow"], 2, 1);
    let noise = || failed("access", errno::ENOENT, "/etc/ld.so.preload", 1.5);
    let message = || failed("openat", errno::ENOENT, "/usr/share/locale/en/LC_MESSAGES/coreutils.mo", 0.2);
    check(vec![
        (
            "cat of a file it may not read, which prints its message in the user's language",
            with(cat(), vec![noise(), shadow(0.4), message()]),
            "PERMISSION_DENIED HIGH /etc/shadow",
        ),
        (
            "a shell that passes on its child's exit code",
            {
                let mut evidence = with(
                    exited(&["sh", "-c", "cat /etc/shadow; exit $?"], 9, 1),
                    vec![by_child(shadow(1.0))],
                );
                evidence.child_exits = vec![child_exit("cat", 1, 0, 0.5)];
                evidence
            },
            "PERMISSION_DENIED HIGH /etc/shadow",
        ),
        (
            "a shell that ends with a code of its own after its child failed",
            {
                let mut evidence =
                    with(exited(&["sh", "-c", "run || exit 3"], 9, 3), vec![by_child(shadow(1.0))]);
                evidence.child_exits = vec![child_exit("run", 1, 0, 0.5)];
                evidence
            },
            "PERMISSION_DENIED MEDIUM /etc/shadow",
        ),
        (
            "a filter's EPERM, which no file's permissions give",
            with(exited(&["mkdir", "/data"], 2, 1), vec![failed("mkdir", errno::EPERM, "/data", 0.3)]),
            "PERMISSION_DENIED MEDIUM /data",
        ),
        (
            "a file in a folder with the sticky bit",
            with(exited(&["rm", "/tmp/a"], 2, 1), vec![failed("unlinkat", errno::EPERM, "/tmp/a", 0.3)]),
            "PERMISSION_DENIED HIGH /tmp/a",
        ),
        (
            "another thread, as language runtimes open files",
            with(exited(&["node", "server.js"], 90, 1), vec![by_other_thread(shadow(30.0))]),
            "PERMISSION_DENIED MEDIUM /etc/shadow",
        ),
        (
            "long before the end",
            with(exited(&["app"], 90_000, 1), vec![shadow(5_000.0)]),
            "PERMISSION_DENIED MEDIUM /etc/shadow",
        ),
        (
            "so long before the end that it has nothing to do with it, yet nobody can say what has",
            with(exited(&["app"], 900_000, 1), vec![shadow(50_000.0)]),
            "PERMISSION_DENIED LOW /etc/shadow",
        ),
        (
            "and worked without it for most of its life",
            with(exited(&["app"], 90_000, 1), vec![shadow(57_000.0)]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        (
            "a minute before the end",
            with(exited(&["app"], 900_000, 1), vec![shadow(70_000.0)]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        (
            "it could be opened later",
            with(cat(), vec![Failure { later_succeeded: true, ..shadow(0.4) }]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a port below 1024",
            with(exited(&["web"], 30, 1), vec![failed_at("bind", errno::EACCES, "0.0.0.0:80/tcp", 2.0)]),
            "PERMISSION_DENIED HIGH 0.0.0.0:80/tcp",
        ),
        (
            "setting the clock",
            with(
                exited(&["date", "-s", "12:00"], 3, 1),
                vec![failed("clock_settime", errno::EPERM, "", 0.5)],
            ),
            "PERMISSION_DENIED HIGH CAP_SYS_TIME",
        ),
        (
            "chown in an entrypoint, and it was what the container was for",
            with(
                exited(&["chown", "-R", "1000", "/data"], 60, 1),
                vec![failed("fchownat", errno::EPERM, "/data/db", 0.5)],
            ),
            "PERMISSION_DENIED HIGH /data/db",
        ),
        (
            "chown for the better, long before something else ends it",
            with(exited(&["app"], 60, 1), vec![failed("fchownat", errno::EPERM, "/data/db", 40.0)]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "access() only asks",
            with(exited(&["app"], 60, 1), vec![failed("access", errno::EACCES, "/etc/shadow", 20.0)]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a stranger's failed call",
            with(exited(&["app"], 60_000, 1), vec![by_stranger(shadow(3_000.0))]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
    ]);
}

#[test]
fn missing_files() {
    let app = || exited(&["/usr/bin/app"], 40, 1);
    let conf = |before| failed("openat", errno::ENOENT, "/etc/app/app.yaml", before);
    check(vec![
        (
            "the only one, and nothing but leaving followed",
            with(app(), vec![conf(0.6)]),
            "FILE_NOT_FOUND MEDIUM /etc/app/app.yaml",
        ),
        (
            "the only one, with some work after it",
            with(app(), vec![conf(25.0)]),
            "FILE_NOT_FOUND MEDIUM /etc/app/app.yaml",
        ),
        (
            "named on the command line",
            with(exited(&["app", "--config=/etc/app/app.yaml"], 40, 1), vec![conf(25.0)]),
            "FILE_NOT_FOUND HIGH /etc/app/app.yaml",
        ),
        (
            "a relative argument",
            with(
                exited(&["python3", "app/main.py"], 40, 2),
                vec![failed("openat", errno::ENOENT, "/srv/app/main.py", 5.0)],
            ),
            "FILE_NOT_FOUND HIGH /srv/app/main.py",
        ),
        (
            "a script that its interpreter only asks for",
            with(
                exited(&["node", "/app/missing.js"], 60, 1),
                vec![failed("statx", errno::ENOENT, "/app/missing.js", 25.0)],
            ),
            "FILE_NOT_FOUND MEDIUM /app/missing.js",
        ),
        (
            "the last of several, which are not clear",
            with(
                app(),
                vec![
                    failed("openat", errno::ENOENT, "/etc/app/a", 9.0),
                    failed("openat", errno::ENOENT, "/etc/app/b", 8.0),
                    failed("openat", errno::ENOENT, "/etc/app/c", 7.0),
                    conf(6.0),
                ],
            ),
            "FILE_NOT_FOUND LOW /etc/app/app.yaml",
        ),
        (
            "a rare error beats a missing file that came after it, which shows that the program went on",
            with(app(), vec![shadow(3.0), conf(0.5)]),
            "PERMISSION_DENIED MEDIUM /etc/shadow",
        ),
        (
            "a missing file just before the end beats another error long before",
            with(app(), vec![shadow(5_000.0), conf(0.5)]),
            "FILE_NOT_FOUND MEDIUM /etc/app/app.yaml",
        ),
        (
            "a library that was found nowhere",
            with(
                exited(&["app"], 3, 127),
                vec![
                    failed(
                        "openat",
                        errno::ENOENT,
                        "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1",
                        1.6,
                    ),
                    failed("openat", errno::ENOENT, "/lib/x86_64-linux-gnu/libfoo.so.1", 0.9),
                    failed("openat", errno::ENOENT, "/usr/lib/libfoo.so.1", 0.8),
                ],
            ),
            "EXEC_FAILED HIGH libfoo.so.1",
        ),
        (
            "libraries that were found elsewhere",
            with(
                exited(&["app"], 3, 1),
                vec![failed("openat", errno::ENOENT, "/usr/lib/tls/libz.so.1", 1.6)],
            ),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "an interpreter's start, then the script's own exit",
            with(
                exited(&["python3", "-c", "import sys; sys.exit(3)"], 20, 3),
                vec![
                    failed("access", errno::ENOENT, "/etc/ld.so.preload", 19.0),
                    failed("openat", errno::ENOENT, "/usr/bin/pyvenv.cfg", 12.0),
                    failed("newfstatat", errno::ENOENT, "/usr/lib/python311.zip", 11.0),
                    failed("newfstatat", errno::ENOENT, "/root/.local/lib/python3.11/site-packages", 8.0),
                    failed("openat", errno::ENOENT, "/usr/lib/locale/C.UTF-8/LC_CTYPE", 14.0),
                ],
            ),
            "PROGRAM_ERROR LOW exit code 3",
        ),
        (
            "a module under every ending",
            with(
                exited(&["node", "/app/main.js"], 70, 1),
                ["/app/package.json", "/app/nope", "/app/nope.js", "/app/nope.json", "/app/nope.node"]
                    .iter()
                    .zip([17.0, 14.4, 14.3, 14.2, 14.1])
                    .map(|(path, before)| failed("statx", errno::ENOENT, path, before))
                    .collect(),
            ),
            "FILE_NOT_FOUND MEDIUM /app/nope",
        ),
        (
            "a module that was found under its second ending",
            with(
                exited(&["node", "/app/main.js"], 70, 1),
                vec![failed("statx", errno::ENOENT, "/app/x", 14.0)],
            ),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a shell goes on after a file that it did not find",
            with(
                exited(&["bash", "-c", ". /etc/settings; exit 4"], 70, 4),
                vec![Failure {
                    comm: "bash".into(),
                    ..failed("openat", errno::ENOENT, "/etc/settings", 0.4)
                }],
            ),
            "FILE_NOT_FOUND MEDIUM /etc/settings",
        ),
        (
            "bash asks for its own file in every folder of PATH, and the loader for a file that is never there",
            with(
                exited(&["bash", "/no/script.sh"], 6, 127),
                vec![
                    failed("access", errno::ENOENT, "/etc/ld.so.preload", 5.1),
                    failed("newfstatat", errno::ENOENT, "/usr/local/sbin/bash", 2.4),
                    failed("newfstatat", errno::ENOENT, "/usr/local/bin/bash", 2.3),
                    failed("connect", errno::ENOENT, "/var/run/nscd/socket", 1.7),
                    failed("openat", errno::ENOENT, "/no/script.sh", 0.5),
                ],
            ),
            "FILE_NOT_FOUND HIGH /no/script.sh",
        ),
        (
            "a user's own settings, which nobody needs",
            with(exited(&["psql"], 300, 2), vec![failed("openat", errno::ENOENT, "/root/.pgpass", 2.9)]),
            "PROGRAM_ERROR LOW exit code 2",
        ),
    ]);
}

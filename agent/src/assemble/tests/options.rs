//! When it is worth looking which options a program cannot know, and in which file.

use super::*;
use crate::enrich::options::{Query, Table};

fn asked(arguments: &[&str], code: i32) -> Option<(String, Vec<String>)> {
    let mut death = death(Status { code, ..Status::default() });
    death.execs[0].1.filename = format!("/usr/bin/{}", arguments[0]).into_bytes();
    death.execs[0].1.arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    let Query { programs, options, table } = options_query(&death)?;
    let is_shell = arguments.iter().any(|argument| argument.ends_with("sh"));
    assert_eq!(table == Table::Getopts, is_shell, "{arguments:?}");
    Some((programs.first()?.display().to_string(), options))
}

#[test]
fn the_file_is_the_program_or_the_script_that_it_interprets() {
    let both = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
    for (arguments, expected) in [
        (vec!["etcd", "--data-dir", "/x", "--name=a"], Some(("/usr/bin/etcd", both("--data-dir", "--name")))),
        (
            vec!["python3.11", "-u", "main.py", "--port=1", "--host", "x"],
            Some(("/app/main.py", both("--port", "--host"))),
        ),
        // Behind an init program.
        (
            vec!["tini", "-g", "--", "redis-server", "--port", "6379", "--maxmemmory=1"],
            Some(("/usr/local/sbin/redis-server", both("--port", "--maxmemmory"))),
        ),
        (
            vec!["dumb-init", "bin/app", "--port=1", "--host"],
            Some(("/app/bin/app", both("--port", "--host"))),
        ),
        (
            vec!["tini", "python3", "main.py", "--port=1", "--host"],
            Some(("/app/main.py", both("--port", "--host"))),
        ),
        (vec!["tini", "--version"], None),
        // A shell's script.
        (vec!["bash", "run.sh", "-p", "8080", "-M", "x"], Some(("/app/run.sh", both("-p", "-M")))),
        (vec!["bash", "run.sh", "--port", "8080"], None),
        // By the one that it is alone with nothing can be told.
        (vec!["etcd", "--data-dir", "/x"], None),
        (vec!["sh", "-c", "etcd --data-dir /x --name=a"], None),
        (vec!["java", "--add-modules", "a", "--class-path", "b", "Main"], None),
        (vec!["python3", "-c", "pass", "--port=1", "--host"], None),
        (vec!["python3", "-m", "http.server", "--port=1", "--host"], None),
        (vec!["node", "--max-old-space-size=1", "--trace-warnings"], None),
    ] {
        let found = asked(&arguments, 2);
        let expected = expected.map(|(program, options)| (program.to_owned(), options));
        assert_eq!(found, expected, "{arguments:?}");
    }
}

#[test]
fn who_ended_well_or_late_liked_its_options() {
    let arguments = ["etcd", "--data-dir", "/x", "--name=a"];
    assert!(asked(&arguments, 0).is_none());
    let mut late = death(Status { code: 1, ..Status::default() });
    late.time = late.execs[0].0 + 10_000_000_001;
    assert!(options_query(&late).is_none());
}

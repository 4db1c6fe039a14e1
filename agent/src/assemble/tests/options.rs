//! When it is worth looking which options a program cannot know, and in which file.

use super::*;
use crate::enrich::options::Query;

fn asked(arguments: &[&str], code: i32) -> Option<(String, Vec<String>)> {
    let mut death = death(Status { code, ..Status::default() });
    death.execs[0].1.filename = format!("/usr/bin/{}", arguments[0]).into_bytes();
    death.execs[0].1.arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    let Query { program, options, .. } = options_query(&death)?;
    Some((program.display().to_string(), options))
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

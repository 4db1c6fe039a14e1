//! The program itself: its exit codes, its sentences, and its end on SIGTERM and SIGINT.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lastwords_proto::v1;
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use tonic::Code;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastwords-aggregator"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = program(arguments).output().unwrap();
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Starts it and reads its log up to the address.
fn ready(store: &str) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let arguments = ["--listen", "127.0.0.1:0", "--no-kubernetes", "--store", store];
    let mut child = program(&arguments).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("ready"), "{line}");
    let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    (child, address, log)
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn wrong_configuration_is_64_and_every_problem_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    std::fs::write(&file, "listen = 'x'\nretain = 3\n").unwrap();
    let (code, stderr) =
        refused(&["--config", file.to_str().unwrap(), "--store", "mysql://db/x", "--kubeconfig", "/no/such"]);
    assert_eq!(code, Some(64));
    assert_eq!(stderr.lines().count(), 4, "{stderr}");
    assert!(stderr.lines().all(|line| line.starts_with("lastwords-aggregator: ")), "{stderr}");
    assert_eq!(refused(&["--config", "/no/such.toml"]).0, Some(64));
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(refused(&["--no-such-option"]).0, Some(2));
    assert_eq!(refused(&["--kubeconfig", "a", "--no-kubernetes"]).0, Some(2));
}

#[test]
fn a_store_that_cannot_be_used_is_1_and_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    std::fs::write(&file, "no database at all, whatever its name may say".repeat(50)).unwrap();
    let store = format!("sqlite:{}", file.display());
    let (code, stderr) = refused(&["--listen", "127.0.0.1:0", "--no-kubernetes", "--store", &store]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("damaged or no SQLite database"), "{stderr}");
}

#[tokio::test]
async fn asked_to_stop_it_ends_its_streams_and_exits_0_within_five_seconds() {
    for name in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}/lastwords.db", directory.path().display());
        let (mut child, address, mut log) = ready(&store);
        let mut query = CrashQueryClient::connect(format!("http://{address}")).await.unwrap();
        let mut watched = query.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
        let began = Instant::now();
        signal(&child, name);
        assert_eq!(watched.message().await.unwrap_err().code(), Code::Unavailable);
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{status}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("received 0 = stored 0"), "{rest}");
    }
}

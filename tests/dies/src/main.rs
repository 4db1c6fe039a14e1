//! `dies STEP…`: a program that fails and dies as it is told, for the suite of deaths. It says nothing on its way.
//!
//! Each argument is a step: a word, then its arguments, all divided by blanks (`"open /etc/app.conf"`). A step that fails is passed
//! over, as programs do that have another plan. After the last step it leaves with exit code 1 if a step failed, else 0.
//!
//! Words that stand before another step: `thread STEP` takes it on a second thread, `child STEP` in a child process, and waits for
//! either; `beside STEP` takes it on a second thread and does not wait; `repeat N STEP` takes it N times. `STEP then STEP` is one
//! step behind such a word.

mod crowds;
mod ends;
mod faults;
mod files;
mod losses;
mod processes;
mod resolve;
mod sockets;

use std::io;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

/// Takes a step, or gives false when it does not know it.
type Module = fn(&[&str]) -> io::Result<bool>;

const MODULES: [Module; 7] =
    [crowds::step, files::step, sockets::step, losses::step, resolve::step, processes::step, ends::step];

fn main() -> ExitCode {
    let mut failed = false;
    for step in std::env::args().skip(1) {
        let words: Vec<String> = step.split_whitespace().map(str::to_owned).collect();
        failed |= take(&words).is_err();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Takes one step.
fn take(words: &[String]) -> io::Result<()> {
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["thread", ..] => on_a_thread(words)?.join().unwrap_or_else(|_| Err(io::Error::other("it failed"))),
        ["beside", ..] => on_a_thread(words).map(drop),
        ["child", step @ ..] => processes::child(step),
        ["repeat", times, ..] => {
            let mut last = Ok(());
            for _ in 0..number(times)? {
                last = take(words.get(2..).unwrap_or_default());
            }
            last
        }
        _ if texts.contains(&"then") => {
            words.split(|word| word == "then").try_fold((), |(), step| take(step))
        }
        step => {
            for module in MODULES {
                if module(step)? {
                    return Ok(());
                }
            }
            eprintln!("dies: {step:?} is no step");
            std::process::exit(64)
        }
    }
}

/// Takes the step behind the first word on a thread of its own.
fn on_a_thread(words: &[String]) -> io::Result<JoinHandle<io::Result<()>>> {
    let step = words.get(1..).unwrap_or_default().to_vec();
    thread::Builder::new().name("worker".to_owned()).spawn(move || take(&step))
}

fn number<N: std::str::FromStr>(text: &str) -> io::Result<N> {
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{text} is no number")))
}

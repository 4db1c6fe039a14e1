//! `lastwords-agent try-each`: a list of commands in one session. Loading the probes takes seconds on an emulated processor and a
//! command a fraction of one, so this is how the suite of deaths runs.

use std::{
    io::{BufRead as _, Write as _},
    time::Instant,
};

use clap::Parser;
use lastwords_proto::{to_json, v1};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{TryError, session::Session};
use crate::{
    args::TryArguments,
    kernel::verdict::WayIn,
    program::{ExitCode, complain},
};

/// A line of standard input.
#[derive(Deserialize)]
struct Request {
    /// Comes back with the answer.
    name: String,
    /// What stands behind `lastwords-agent try`.
    arguments: Vec<String>,
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    arguments: TryArguments,
}

/// Reads requests (a JSON object a line) and answers each with a line: the crash, or why there is none.
#[must_use]
pub fn try_each(way_in: Option<WayIn>) -> ExitCode {
    crate::telemetry::start(tracing_subscriber::filter::LevelFilter::WARN);
    let mut session = match Session::start(way_in) {
        Ok(session) => session,
        Err(error) => {
            complain(&error);
            return error.exit_code();
        }
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let began = Instant::now();
        let mut answer = answer(&mut session, &line);
        if let Value::Object(answer) = &mut answer {
            answer.insert("milliseconds".to_owned(), json!(began.elapsed().as_millis()));
        }
        if writeln!(std::io::stdout(), "{answer}").is_err() {
            return ExitCode::Failed;
        }
    }
    ExitCode::Done
}

fn answer(session: &mut Session, line: &str) -> Value {
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return json!({ "problem": format!("not a request: {error}") }),
    };
    let explained = Line::try_parse_from(&request.arguments)
        .map_err(|error| error.to_string())
        .and_then(|line| session.explain(&line.arguments).map_err(|error: TryError| error.to_string()));
    match explained {
        Ok(explained) => json!({
            "name": request.name,
            "crash": shown(&explained.crash),
            "survived": explained.survived.iter().map(shown).collect::<Vec<_>>(),
        }),
        Err(problem) => json!({ "name": request.name, "problem": problem }),
    }
}

fn shown(crash: &v1::Crash) -> Value {
    to_json("Crash", crash).unwrap_or_else(|error| json!({ "problem": error.to_string() }))
}

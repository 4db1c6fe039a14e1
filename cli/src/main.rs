//! `lastwords`, also installed as `kubectl-lastwords`: why a container died, asked of the aggregator.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use lastwords_cli::{Arguments, Output, run};

fn main() -> ExitCode {
    let arguments = Arguments::from_command_line();
    let stdout = std::io::stdout();
    let output = Output::new(arguments.output(), wants_colour(stdout.is_terminal()));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lastwords: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments, &output, &mut stdout.lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has had enough: `lastwords list | head`.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lastwords: {}", lastwords_render::escape(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Colours only where somebody looks and did not say no (no-color.org).
fn wants_colour(terminal: bool) -> bool {
    let said_no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let cannot = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    terminal && !said_no && !cannot
}

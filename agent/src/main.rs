//! `lastwords-agent`: see `args.rs` for what it can be told.

use clap::Parser as _;
use lastwords_agent::{
    args::{Arguments, Command},
    check, run, try_command,
};

fn main() -> std::process::ExitCode {
    match Arguments::parse().command {
        Command::Run { config, way_in } => run::run(config.as_deref(), way_in),
        Command::Check { way_in, output } => check::check(way_in, output),
        Command::Try(arguments) => try_command::try_command(&arguments),
        Command::TryEach { way_in } => try_command::try_each(way_in),
        Command::CheckChild => try_command::die(),
        Command::TryChild => try_command::become_command(),
    }
    .into()
}

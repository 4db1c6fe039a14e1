//! `lastwords-aggregator`: takes crash reports, names their causes, answers queries.

use std::process::ExitCode;

use clap::Parser;
use lastwords_aggregator::args::Args;
use lastwords_aggregator::{config, serve, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// The program ran and failed.
const FAILED: u8 = 1;
/// The configuration is wrong.
const MISCONFIGURED: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let settings = match config::settings(&args) {
        Ok(settings) => settings,
        Err(problems) => return fail(MISCONFIGURED, &problems),
    };
    telemetry::start();
    let mut aggregator = match serve::start(settings).await {
        Ok(aggregator) => aggregator,
        Err(error) => return fail(FAILED, &[error.to_string()]),
    };
    let failure = tokio::select! {
        () = asked_to_stop() => None,
        error = aggregator.failed() => Some(error),
    };
    let stopped = aggregator.stop().await;
    match failure.or(stopped.err()) {
        None => ExitCode::SUCCESS,
        Some(error) => fail(FAILED, &[error.to_string()]),
    }
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn fail(code: u8, sentences: &[String]) -> ExitCode {
    for sentence in sentences {
        eprintln!("lastwords-aggregator: {sentence}");
    }
    ExitCode::from(code)
}

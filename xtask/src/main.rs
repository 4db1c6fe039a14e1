//! `cargo xtask`: the one door for people who work on Lastwords.
//!
//! Each verb has a file of its own. Progress goes to stderr; what a verb is asked for (a table, `-o json`) goes to stdout.

mod apt;
mod architecture;
mod bench;
mod build;
mod chart;
mod corpus;
mod cross;
mod demo;
mod disk;
mod ebpf;
mod fuzz;
mod image;
mod kernels;
mod output;
mod process;
mod setup;
mod table;
mod test;
mod tidy;
mod unstable;
mod vm;
mod wire;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build and test Lastwords.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what a build and the tests need; what is there already is left alone.
    Setup(setup::Setup),
    /// Compile the eBPF object and the release programs into target/release.
    Build(build::Build),
    /// Show three real crashes explained; ends by itself and leaves nothing behind.
    Demo(demo::Demo),
    /// Check the laws of the code: who may depend on whom, where unsafe may stand, how long a file may be.
    Tidy(tidy::Tidy),
    /// Run everything that has to pass: format, lints, laws, unit tests, live tests, the kernels in QEMU.
    Test(test::Test),
    /// Feed the agent's decoder with damaged records; an input that crashes it is kept in tests/corpus/decode.
    Fuzz(fuzz::Fuzz),
    /// Let real programs die and hold the verdicts against what is true.
    Corpus(corpus::Corpus),
    /// Count what it costs that somebody watches.
    Bench(bench::Bench),
    /// Put the release programs into container images, target/image/*.tar.gz.
    Image(image::Images),
    /// Lint and render the Helm chart, check the objects, and hold deploy/rendered against them.
    Chart(chart::Chart),
    /// Record the wire of this version, once a release, for the versions after it to be held against.
    Wire(wire::Wire),
    /// Boot Debian's kernels in QEMU (no KVM needed) and run a suite of deaths in each.
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(setup) => setup.run(),
        Verb::Build(build) => build.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::Tidy(tidy) => tidy.run(),
        Verb::Test(test) => return test.run(),
        Verb::Fuzz(fuzz) => fuzz.run(),
        Verb::Corpus(corpus) => corpus.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Image(images) => images.run(),
        Verb::Chart(chart) => chart.run(),
        Verb::Wire(wire) => wire.run(),
        Verb::Vm(vm) => vm.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

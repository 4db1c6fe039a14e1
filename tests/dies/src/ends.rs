//! Steps that end the process.

use std::fs::File;
use std::io;
use std::process;

use crate::{faults, number};

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        ["exit", code] => process::exit(number(code)?),
        // Without this file it ends itself.
        ["give-up-without", path, code] => {
            if File::open(path).is_err() {
                process::exit(number(code)?);
            }
        }
        ["abort"] => process::abort(),
        ["recurse"] => drop(recurse(&[0; 4096], u64::MAX)),
        ["leave-alone", code] => faults::end_this_thread(number(code)?),
        ["segv"] => faults::null_pointer(),
        ["bus"] => faults::behind_the_end_of_a_file()?,
        ["ill"] => faults::illegal_instruction(),
        ["fpe"] => faults::division_by_zero(),
        ["trap"] => faults::breakpoint(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Until the stack is full.
fn recurse(above: &[u8; 4096], deeper: u64) -> u8 {
    let mut own = *above;
    std::hint::black_box(&mut own);
    let [first, ..] = own;
    if deeper == 0 { first } else { recurse(&own, deeper - 1).wrapping_add(first) }
}

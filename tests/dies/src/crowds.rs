//! Steps of many threads or processes at once.

use std::io;
use std::mem;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::{faults, files, number};

/// Threads beside the first one.
const THREADS: usize = 6;
/// What is left of a crowd ends by itself, should nobody end it.
const LONGEST: Duration = Duration::from_secs(30);

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        // Other files that are not there, on so many threads.
        ["look-around-on", threads, times] => look_around_on(threads, times)?,
        // All threads end at once, in an order that is another one for each number.
        ["end-in-disorder", order] => end_in_disorder(number(order)?),
        ["bomb"] => bomb()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn look_around_on(threads: &str, times: &str) -> io::Result<()> {
    let times = number(times)?;
    let crowd: Vec<_> =
        (0..number::<usize>(threads)?).map(|_| thread::spawn(move || files::look_around(times))).collect();
    for one in crowd {
        one.join().map_err(|_| io::Error::other("a thread failed"))?;
    }
    Ok(())
}

/// `order` chooses who ends the process, if anybody does, and who only leaves.
fn end_in_disorder(order: u32) {
    let code = i32::try_from(order % 250).unwrap_or(0) + 1;
    let together = Arc::new(Barrier::new(THREADS + 1));
    for number in 0..THREADS {
        let together = Arc::clone(&together);
        thread::spawn(move || {
            together.wait();
            match order % 4 {
                // One ends the process while the others leave.
                0 | 1 if number == usize::try_from(order / 4).unwrap_or(0) % THREADS => process::exit(code),
                // Several want to, each with the same code.
                2 if number % 2 == 0 => process::exit(code),
                _ => faults::end_this_thread(code),
            }
        });
    }
    together.wait();
    // By itself, or racing with the others to end the process.
    if order % 4 == 1 {
        process::exit(code);
    }
    faults::end_this_thread(code);
}

/// Starts itself until that is refused. The first process then gives up; the others wait for their end.
fn bomb() -> io::Result<()> {
    let refused = loop {
        match Command::new("/proc/self/exe").args(["bomb", &format!("sleep {}", LONGEST.as_millis())]).spawn()
        {
            Ok(child) => mem::forget(child),
            Err(error) => break error,
        }
    };
    Err(refused)
}

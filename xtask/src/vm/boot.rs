//! One boot of an emulated machine, and what came over its serial line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::architecture::Architecture;
use crate::kernels::Kernel;

/// How long a machine may take without any case: 20 s on an idle host, most of it for the verifier, which walks through a program
/// for each of a hundred system calls. On a host with ten times as much to do as it has processors it was more than five minutes.
const TIME_TO_BOOT: Duration = Duration::from_secs(900);

/// How long a case may take by each way in. Half a second is usual on an emulated processor.
const TIME_PER_CASE: Duration = Duration::from_secs(10);

/// How many lines of the console are shown when a machine does not come to its end.
const LINES_SHOWN: usize = 25;

/// The longest line that is kept; one JSON object is a few kilobytes.
const LONGEST_LINE: u64 = 1 << 20;

const MEMORY_IN_MEBIBYTES: &str = "1024";

/// Half of it holds the file system, in which bpftrace has a compiler.
const MEBIBYTES_TO_COUNT: &str = "3072";

const QEMU_X86: &str = "qemu-system-x86_64";
const QEMU_ARM64: &str = "qemu-system-aarch64";

/// Machines that start within seconds: x86-64 without firmware, arm64 without any real board's devices.
const X86_MACHINE: &str = "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=on";
const ARM64_MACHINE: &str = "virt";

/// Everything QEMU can emulate but cmpxchg16b: when an interrupt meets that instruction, QEMU 7.2 hands the kernel garbage for
/// flags, and 6.12, whose allocator uses it all the time, panicked in every third boot. Without it, in none of 32.
const X86_PROCESSOR: &str = "max,cx16=off";

/// Pointers are signed with a cheap function: emulating the architected one costs more than all else that the machine does.
const ARM64_PROCESSOR: &str = "max,pauth-impdef=on";

/// What every kernel is told. Without a trusted source the first random number would wait for entropy that an idle machine does
/// not gather.
const KERNEL_OPTIONS: &str = "quiet panic=-1 random.trust_cpu=on";

const MARKER: &str = "@@lastwords ";

/// One command of the script and what it did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name in the script.
    pub(crate) name: String,
    /// Everything it wrote to stdout.
    pub(crate) stdout: String,
    /// The last lines it wrote to stderr.
    pub(crate) stderr: String,
    /// Its exit code; `None` when it did not come to its end.
    pub(crate) exit_code: Option<i32>,
}

/// What became of a machine.
pub(crate) struct Boot {
    /// The parts that ran; the last one perhaps not to its end.
    pub(crate) parts: Vec<Part>,
    /// Why it did not come to its own end, if it did not, with the console's last lines.
    pub(crate) stopped: Option<String>,
}

/// Boots `kernel` with the archive as its root file system and reads the console until it powers off. `each` is told every line
/// that a part writes to stdout, with the part's name.
///
/// # Errors
/// When QEMU cannot be started. A machine that does not come to its end in time is an outcome, not an error: what it did until
/// then counts.
pub(crate) fn boot(
    kernel: &Kernel,
    archive: &Path,
    cases: usize,
    each: impl FnMut(&str, &str),
) -> Result<Boot> {
    let limit = limit(cases);
    listen(&mut command(kernel, archive, limit, ""), &format!("kernel {}", kernel.version), limit, each)
        .context("cannot run QEMU; `cargo xtask setup`, for arm64 with `--only arm64`, installs it")
}

/// As [`boot`], in a machine whose clock counts instructions: one nanosecond each, and none while it idles. What it measures does not
/// depend on how fast or busy the host is, and hardly on the boot: nothing is put at random addresses.
///
/// # Errors
/// As [`boot`].
pub(crate) fn boot_counting(
    kernel: &Kernel,
    archive: &Path,
    limit: Duration,
    each: impl FnMut(&str, &str),
) -> Result<Boot> {
    let mut command = command(kernel, archive, limit, " nokaslr norandmaps");
    // Of what is given twice QEMU takes the last.
    command.args(["-icount", "shift=0,sleep=off", "-m", MEBIBYTES_TO_COUNT]);
    listen(&mut command, &format!("kernel {}", kernel.version), limit, each)
        .context("cannot run QEMU; `cargo xtask setup` installs it")
}

/// How long a machine may take for so many cases by each way in.
pub(crate) fn limit(cases: usize) -> Duration {
    TIME_TO_BOOT + TIME_PER_CASE * u32::try_from(cases).unwrap_or(u32::MAX)
}

/// Runs a command that ends within `limit` and reads what it prints as [`boot`] does.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn listen(
    command: &mut Command,
    what: &str,
    limit: Duration,
    each: impl FnMut(&str, &str),
) -> Result<Boot> {
    let mut machine = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let console = machine.stdout.take().context("it has no stdout")?;
    let mut log = Log::new(each);
    let read = log.read(BufReader::new(console));
    let status = machine.wait().context("lost it")?;
    read.context("cannot read what it prints")?;
    let stopped = (!log.finished).then(|| {
        let last: Vec<String> = log.recent.iter().map(|line| format!("    {line}")).collect();
        let during = log.part.as_ref().map_or(String::new(), |part| format!(" during {}", part.name));
        format!(
            "{what} did not come to its end within {} s{during} ({status}); the last lines:\n{}",
            limit.as_secs(),
            last.join("\n")
        )
    });
    Ok(Boot { parts: log.into_parts(), stopped })
}

fn command(kernel: &Kernel, archive: &Path, limit: Duration, more_options: &str) -> Command {
    let (qemu, machine, processor, own_options) = match kernel.architecture {
        Architecture::X86 => (QEMU_X86, X86_MACHINE, X86_PROCESSOR, "console=ttyS0 reboot=t"),
        Architecture::Arm64 => (QEMU_ARM64, ARM64_MACHINE, ARM64_PROCESSOR, "console=ttyAMA0"),
    };
    // `timeout` ends the machine even when we are killed; in the foreground, so that Ctrl-C reaches both.
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=5", &limit.as_secs().to_string(), qemu])
        .args(["-M", machine, "-cpu", processor, "-m", MEMORY_IN_MEBIBYTES])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &format!("{own_options} {KERNEL_OPTIONS}{more_options}")]);
    command
}

/// The console, taken apart at its markers as it comes.
struct Log<F> {
    each: F,
    parts: Vec<Part>,
    part: Option<Part>,
    in_stderr: bool,
    recent: VecDeque<String>,
    finished: bool,
}

impl<F: FnMut(&str, &str)> Log<F> {
    fn new(each: F) -> Self {
        Self {
            each,
            parts: Vec::new(),
            part: None,
            in_stderr: false,
            recent: VecDeque::new(),
            finished: false,
        }
    }

    fn read(&mut self, mut console: impl BufRead) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while console.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)? > 0 {
            let line: String = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            self.line(&line);
            bytes.clear();
        }
        Ok(())
    }

    fn into_parts(mut self) -> Vec<Part> {
        self.parts.extend(self.part);
        self.parts
    }

    fn line(&mut self, line: &str) {
        if self.recent.len() == LINES_SHOWN {
            self.recent.pop_front();
        }
        self.recent.push_back(line.escape_debug().to_string());
        match line.strip_prefix(MARKER).map(|marker| marker.split(' ').collect::<Vec<_>>()).as_deref() {
            Some(["part", name]) => {
                self.part = Some(Part { name: (*name).to_owned(), ..Part::default() });
                self.in_stderr = false;
            }
            Some(["stderr"]) => self.in_stderr = true,
            Some(["end", _, code]) => {
                if let Some(mut part) = self.part.take() {
                    part.exit_code = code.parse().ok();
                    self.parts.push(part);
                }
            }
            Some(["finished"]) => self.finished = true,
            _ => {
                if let Some(part) = &mut self.part {
                    if !self.in_stderr {
                        (self.each)(&part.name, line);
                    }
                    let text = if self.in_stderr { &mut part.stderr } else { &mut part.stdout };
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(console: &str) -> (Vec<Part>, bool) {
        let mut log = Log::new(|_, _| {});
        log.read(console.as_bytes()).expect("a slice can be read");
        let finished = log.finished;
        (log.into_parts(), finished)
    }

    #[test]
    fn the_console_is_taken_apart() {
        let (parts, finished) = log(
            "booting\r\n@@lastwords part a\r\n{}\r\n\r\n@@lastwords stderr\r\noops\r\n@@lastwords end a 3\r\n@@lastwords finished\r\n",
        );
        assert!(finished);
        assert_eq!(parts.len(), 1);
        assert_eq!((parts[0].name.as_str(), parts[0].exit_code), ("a", Some(3)));
        assert_eq!((parts[0].stdout.trim(), parts[0].stderr.trim()), ("{}", "oops"));
    }

    #[test]
    fn a_machine_that_stops_in_the_middle_has_not_finished() {
        let (parts, finished) = log("@@lastwords part a\r\n{}\r\nKernel panic - not syncing\r\n");
        assert!(!finished);
        assert_eq!((parts.len(), parts[0].exit_code), (1, None));
        assert!(parts[0].stdout.starts_with("{}\n"), "what it said until then counts");
    }
}

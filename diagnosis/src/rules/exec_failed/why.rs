//! What kept a program from being executed, from the error and from what its first bytes name, and what to change.

use super::super::invalid_arguments::is_interpreter;
use crate::case::{Case, is_named};
use crate::evidence::{Failure, FileFacts};
use crate::{context, errno, words};

/// A carriage return as the agent shows it.
const CARRIAGE_RETURN: &str = "\\x0d";

/// Why a program could not be executed.
enum Why<'a> {
    /// There is no such file.
    Missing,
    /// The file was not looked at: it, or what it names, is not there.
    MissingOrIts,
    /// A script's interpreter is not there.
    Interpreter(&'a str),
    /// It is there, but for the carriage return at the end of the script's first line.
    CarriageReturn(&'a str),
    /// The loader that it was linked with is not there.
    Loader(&'a str),
    /// The file is there, what it names is not, and which that is was not seen.
    WhatItNames,
    /// It is a directory.
    Directory,
    /// Its mode does not let this user execute it.
    Mode(u32),
    /// Its mode does, and something else does not.
    NotByMode(u32),
    /// Nothing is known of it.
    NotExecutable,
    /// It is for another machine.
    Machine { its: &'a str, node: &'a str },
    /// It is an ELF program for this machine and damaged.
    Damaged,
    /// It is neither an ELF program nor a script that names its interpreter.
    NoProgram,
    /// The file was not looked at: it is one of these two.
    NoProgramHere,
    /// Its arguments and environment do not fit.
    TooLarge,
    /// The error alone has to do.
    Else,
}

fn why(failure: &Failure) -> Why<'_> {
    let looked_at = failure.file.as_ref();
    let itself = looked_at.filter(|file| file.path == failure.path);
    let program = itself.filter(|file| file.kind == "file");
    match failure.errno {
        errno::ENOENT => match (program, looked_at) {
            (Some(file), _) => missing_beside(file),
            (None, Some(_)) => Why::Missing,
            (None, None) => Why::MissingOrIts,
        },
        errno::EACCES => match itself {
            Some(file) if file.kind == "directory" => Why::Directory,
            Some(file) if file.mode & 0o111 == 0o111 => Why::NotByMode(file.mode),
            Some(file) => Why::Mode(file.mode),
            None => Why::NotExecutable,
        },
        errno::ENOEXEC | errno::ELIBBAD => match program {
            Some(file) if file.machine.is_empty() => Why::NoProgram,
            Some(file) if file.node_machine.is_empty() => Why::NoProgramHere,
            Some(file) if file.machine == file.node_machine => Why::Damaged,
            Some(file) => Why::Machine { its: &file.machine, node: &file.node_machine },
            None => Why::NoProgramHere,
        },
        errno::E2BIG => Why::TooLarge,
        _ => Why::Else,
    }
}

fn missing_beside(file: &FileFacts) -> Why<'_> {
    match file.interpreter.as_str() {
        interpreter if !file.interpreter_missing || interpreter.is_empty() => Why::WhatItNames,
        interpreter if !file.machine.is_empty() => Why::Loader(interpreter),
        interpreter => match interpreter.strip_suffix(CARRIAGE_RETURN) {
            Some(plain) => Why::CarriageReturn(plain),
            None => Why::Interpreter(interpreter),
        },
    }
}

/// `the file does not exist; execve failed with ENOENT (no such file or directory)`.
pub(super) fn reason(failure: &Failure) -> String {
    let uid = failure.uid;
    let failed = words::failed(failure);
    let why = match why(failure) {
        Why::Missing => "the file does not exist".to_owned(),
        Why::MissingOrIts => "the file, or the interpreter that it names, does not exist".to_owned(),
        Why::Interpreter(path) => {
            format!("its interpreter {} does not exist in the image", words::one_line(path))
        }
        Why::CarriageReturn(path) => {
            format!(
                "its first line ends in a carriage return, so that it asks for an interpreter called {}\\r",
                words::one_line(path)
            )
        }
        Why::Loader(path) => {
            format!(
                "the loader {} that it was linked with does not exist in the image",
                words::one_line(path)
            )
        }
        Why::WhatItNames => "the file is there but the interpreter or loader that it names is not".to_owned(),
        Why::Directory => "it is a directory".to_owned(),
        Why::Mode(mode) => format!("it is not executable for uid {uid} (mode {:04o})", mode & 0o7777),
        Why::NotByMode(mode) => format!(
            "its mode {:04o} lets uid {uid} execute it, but its mount (noexec), a folder above it or its interpreter does not",
            mode & 0o7777
        ),
        Why::NotExecutable => format!("it is not executable for uid {uid}"),
        Why::Machine { its, node } => {
            format!("it is for {}, the node is {}", words::one_line(its), words::one_line(node))
        }
        Why::Damaged => "it is a program for this machine that is cut off or damaged".to_owned(),
        Why::NoProgram => {
            "it is no program: neither an ELF file nor a script whose first line names its interpreter"
                .to_owned()
        }
        Why::NoProgramHere => {
            "it is no program for this machine, or a script without a first line that names its interpreter"
                .to_owned()
        }
        Why::TooLarge => "its arguments and environment are too large".to_owned(),
        Why::Else => return failed,
    };
    format!("{why}; {failed}")
}

/// What to change.
pub(super) fn remedy(case: &Case<'_>, failure: &Failure, object: &str) -> String {
    let field = case.field();
    match why(failure) {
        Why::Interpreter(path) => format!(
            "install {0} in the image, or write a first line into {object} that names an interpreter which is there",
            words::one_line(path)
        ),
        Why::CarriageReturn(_) => {
            format!(
                "save {object} with line ends of Unix (sed -i 's/\\r$//' {object}) and build the image anew"
            )
        }
        Why::Loader(path) => format!(
            "build {object} for the image's C library, or use an image that has {}: one of musl (Alpine) cannot run a program of glibc, nor the other way round; or link it statically",
            words::one_line(path)
        ),
        Why::WhatItNames => format!(
            "install the interpreter named in the first line of {object} (or the C library it was linked with), and see that this line does not end in a carriage return"
        ),
        Why::Directory => format!("name a program in {field}.command: {object} is a directory"),
        Why::NotByMode(_) => format!(
            "mount what holds {object} without noexec, or give the folders above it and its interpreter the mode to be used by uid {}",
            failure.uid
        ),
        Why::Mode(_) | Why::NotExecutable => {
            format!("chmod +x {object} in the image, and see that its mount is not noexec")
        }
        Why::Machine { its, node } => format!(
            "build the image for linux/{} (or for both), or have the pod run on {} nodes (spec.nodeSelector kubernetes.io/arch: {})",
            platform(node),
            words::one_line(its),
            platform(its)
        ),
        Why::Damaged => format!("copy {object} into the image anew: the file is not whole"),
        Why::NoProgram => {
            format!("give {object} a first line such as #!/bin/sh, or put the program itself there")
        }
        Why::NoProgramHere => format!(
            "give {object} a first line such as #!/bin/sh, or build the image for the node's architecture"
        ),
        Why::TooLarge => {
            format!("shorten {field}.args and {field}.env (Service links count too: spec.enableServiceLinks)")
        }
        kind @ (Why::Missing | Why::MissingOrIts | Why::Else) => {
            // Which of the two it is was not seen.
            let first_line = match kind {
                Why::MissingOrIts => {
                    "; if it is there, look at its first line: the interpreter behind #! is not, which a line end of Windows alone brings about"
                }
                _ => "",
            };
            match starter(case, failure, object) {
                Some(starter) => format!(
                    "put {object} into the image, or correct its name where {starter} starts it{}{first_line}",
                    context::or_variable(case, failure)
                ),
                None => {
                    format!(
                        "correct {field}.command (or {field}.args), or put {object} into the image{first_line}"
                    )
                }
            }
        }
    }
}

/// Who was to start a program that the container's command line does not name: the script, or the program, that has its name. `None` where
/// that command line names it, or may.
pub(super) fn starter(case: &Case<'_>, failure: &Failure, object: &str) -> Option<String> {
    let process = case.evidence.process.as_ref().filter(|process| !process.args_truncated)?;
    if case.never_executed() {
        return None;
    }
    // `sh -c "exec /app/server"` names it too.
    let part_of_a_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':');
    let has = |argument: &str| {
        argument.split(|c: char| !part_of_a_path(c)).any(|word| {
            word == object || words::base_name(word) == words::base_name(object) && !word.is_empty()
        })
    };
    if let Some(script) = by_first_line(case).filter(|_| failure.pid == process.pid) {
        return Some(format!("the first line of {script}"));
    }
    if failure.comm.is_empty() || process.args.iter().any(|argument| has(argument)) {
        return None;
    }
    let name = words::one_line(&failure.comm);
    let Some(at) =
        process.args.iter().position(|argument| is_named(&failure.comm, words::base_name(argument)))
    else {
        return Some(name);
    };
    // `sh /entry.sh`: of an interpreter it is the script that names what is started.
    let of_interpreter = is_interpreter(&failure.comm);
    let is_script = |argument: &str| {
        argument.contains(['/', '.'])
            && !argument.starts_with('-')
            && !argument.contains(' ')
            && !is_interpreter(argument)
    };
    let script = process.args.iter().skip(at).find(|argument| !of_interpreter || is_script(argument));
    Some(script.map_or(name, |script| words::one_line(script)))
}

/// The script whose first line (`#!/usr/bin/env node18`) the kernel made the command line of: it was executed by its own path, which is an
/// argument of its interpreter's then.
fn by_first_line(case: &Case<'_>) -> Option<String> {
    let exec = case.evidence.execs.last()?;
    let (interpreter, rest) = exec.args.split_first()?;
    let is_script =
        words::base_name(interpreter) != words::base_name(&exec.path) && rest.contains(&exec.path);
    is_script.then(|| words::one_line(&exec.path))
}

/// A machine as images and nodes are labelled.
fn platform(machine: &str) -> String {
    match machine {
        "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "x86" => "386".to_owned(),
        other => words::one_line(other),
    }
}

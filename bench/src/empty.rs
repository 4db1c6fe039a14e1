//! Empty programs at given hooks, for as long as this process lives.

use std::{any::Any, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, FEntry, FExit},
};

use crate::hooks::Hook;

/// Attaches one at each hook that stands in `list`, a line each, and stays until standard input ends.
///
/// # Errors
/// When the kernel refuses one: a floor with a hole is none.
pub(crate) fn hold(object: &Path, list: &Path) -> Result<()> {
    let object = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let list = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let types = Btf::from_sys_fs().context("cannot read the kernel's types")?;
    let mut ebpf = EbpfLoader::new().load(&object)?;
    let mut links = Vec::new();
    for line in list.lines() {
        let hook = Hook::read(line).with_context(|| format!("{line:?} is no hook"))?;
        links.push(attach(&mut ebpf, &types, &hook).with_context(|| format!("cannot attach at {line}"))?);
    }
    if links.is_empty() {
        bail!("no hook is named");
    }
    println!("{} empty programs", links.len());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("cannot wait")?;
    Ok(())
}

/// A program is loaded for one hook, and its link keeps it: then it can be loaded for the next.
fn attach(ebpf: &mut Ebpf, types: &Btf, hook: &Hook) -> Result<Box<dyn Any>> {
    let name = match hook {
        Hook::Tracepoint(_) => "empty_tracepoint",
        Hook::Entry(_) => "empty_fentry",
        Hook::Exit(_) => "empty_fexit",
    };
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(match hook {
        Hook::Tracepoint(tracepoint) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(tracepoint, types)?;
            let link = program.attach()?;
            let link = program.take_link(link)?;
            program.unload()?;
            Box::new(link)
        }
        Hook::Entry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, types)?;
            let link = program.attach()?;
            let link = program.take_link(link)?;
            program.unload()?;
            Box::new(link)
        }
        Hook::Exit(function) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, types)?;
            let link = program.attach()?;
            let link = program.take_link(link)?;
            program.unload()?;
            Box::new(link)
        }
    })
}

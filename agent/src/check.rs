//! `lastwords-agent check`: can crashes be recorded here, and what of them?

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    args::Output,
    enrich::{cgroup::ControlGroups, procfs::HostProc},
    kernel::{
        Kernel,
        verdict::{State, Verdict, WayIn},
    },
    program::ExitCode,
    try_command::{Flow, prove},
};

/// Everything that was found out.
struct Findings {
    kernel_release: String,
    control_groups: Result<&'static str, String>,
    probes: Result<Vec<Verdict>, String>,
    /// None where the probes do not run.
    flow: Option<Flow>,
}

/// Loads and attaches everything as `run` does, says what came of it, and takes it out again.
#[must_use]
pub fn check(way_in: Option<WayIn>, output: Output) -> ExitCode {
    let mut findings = Findings {
        kernel_release: kernel_release(),
        control_groups: ControlGroups::open(Path::new("/sys/fs/cgroup"))
            .and_then(|groups| groups.require_version_2().map(|()| groups.layout_name()))
            .map_err(|error| error.to_string()),
        probes: Ok(Vec::new()),
        flow: None,
    };
    match Kernel::load(HostProc::new(Path::new("/proc")).pid_namespace(), way_in) {
        Ok(kernel) => {
            findings.probes = Ok(kernel.verdicts.clone());
            findings.flow = findings.works().then(|| prove(kernel));
        }
        Err(error) => findings.probes = Err(error.to_string()),
    }
    match output {
        Output::Text => print_text(&findings),
        Output::Json => println!("{:#}", findings.json()),
    }
    match findings.flow {
        _ if !findings.works() => ExitCode::NotPossibleHere,
        Some(Flow::Missing(_)) => ExitCode::Failed,
        _ => ExitCode::Done,
    }
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

impl Findings {
    fn works(&self) -> bool {
        let probes = self.probes.as_ref();
        self.control_groups.is_ok()
            && probes.is_ok_and(|probes| probes.iter().all(|probe| probe.is_active() || !probe.required))
    }

    /// Whether the probes run and yet nothing came out.
    fn is_dry(&self) -> bool {
        matches!(self.flow, Some(Flow::Missing(_)))
    }

    fn json(&self) -> Value {
        json!({
            "ok": self.works() && !self.is_dry(),
            "kernel": self.kernel_release,
            "cgroups": match &self.control_groups {
                Ok(layout) => json!({"ok": true, "layout": layout}),
                Err(problem) => json!({"ok": false, "problem": problem}),
            },
            "btf": self.probes.is_ok() || Path::new(crate::kernel::btf::VMLINUX).exists(),
            "problem": self.probes.as_ref().err(),
            "evidence": self.flow.as_ref().map(flow_json),
            "probes": self.probes.iter().flatten().map(probe_json).collect::<Vec<_>>(),
        })
    }
}

fn flow_json(flow: &Flow) -> Value {
    match flow {
        Flow::Seen { milliseconds, what } => {
            json!({"verdict": "flows", "milliseconds": milliseconds, "seen": what})
        }
        Flow::Skipped(reason) => json!({"verdict": "skipped", "reason": reason}),
        Flow::Missing(what) => json!({"verdict": "missing", "reason": what}),
    }
}

fn probe_json(verdict: &Verdict) -> Value {
    let mut value = json!({
        "name": verdict.probe,
        "hook": verdict.hook,
        "required": verdict.required,
        "without": verdict.without,
    });
    let more = match &verdict.state {
        State::Active { way_in, refused, instructions, missing } => json!({
            "verdict": "active",
            "way_in": way_in.to_string(),
            "refused": refused,
            "verified_instructions": instructions,
            "missing": missing,
        }),
        State::Unsupported(reason) => json!({"verdict": "unsupported", "reason": reason}),
        State::Broken(reason) => json!({"verdict": "broken", "reason": reason}),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn print_text(findings: &Findings) {
    println!("kernel    {}", findings.kernel_release);
    match &findings.control_groups {
        Ok(layout) => println!("cgroups   {layout}"),
        Err(problem) => println!("cgroups   not usable: {problem}"),
    }
    match &findings.probes {
        Ok(verdicts) => {
            for verdict in verdicts {
                println!("probe     {verdict}");
            }
        }
        Err(problem) => println!("probes    {problem}"),
    }
    if let Some(flow) = &findings.flow {
        println!("evidence  {flow}");
    }
    println!(
        "{}",
        if findings.works() && !findings.is_dry() {
            "Crashes can be recorded here."
        } else {
            "Crashes cannot be recorded here."
        }
    );
}

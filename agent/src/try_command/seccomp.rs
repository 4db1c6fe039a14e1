//! An OCI seccomp profile → filters. The kernel asks every filter and takes the strictest answer, so each action of the profile is
//! a filter of its own.

use std::{collections::BTreeMap, path::Path};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use serde::{Deserialize, Serialize};
use syscalls::Sysno;

/// Largest profile that is read; Docker's default one has 15 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// The part of an OCI profile that decides (runtime-spec, config-linux.md, "Seccomp").
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// Filters that are ready to be put on.
pub(super) struct Filters(Vec<BpfProgram>);

impl Profile {
    /// Reads a profile and checks that it can be compiled.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let too_large = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > MAX_BYTES);
        if too_large {
            return Err(format!("the seccomp profile {name} has more than {MAX_BYTES} bytes"));
        }
        let text = std::fs::read(file)
            .map_err(|error| format!("cannot read the seccomp profile {name}: {error}"))?;
        let profile: Self = serde_json::from_slice(&text).map_err(|error| {
            format!("{name} is no OCI seccomp profile (JSON with defaultAction and syscalls): {error}")
        })?;
        profile.compile().map_err(|problem| format!("{name}: {problem}"))?;
        Ok(profile)
    }

    /// Makes the filters. Calls that this architecture does not have are passed over, as runtimes do.
    pub(super) fn compile(&self) -> Result<Filters, String> {
        let default = action(self.default_action, self.default_errno_ret);
        // What another rule decides must not fall to the default, unless it is stricter anyway.
        let mut spared: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let mut filters = Vec::new();
        for calls in &self.syscalls {
            let own = action(calls.action, calls.errno_ret);
            if own == default {
                continue;
            }
            let rules = calls.rules()?;
            merge(&mut spared, &rules);
            if own != SeccompAction::Allow {
                filters.push(program(rules, SeccompAction::Allow, own)?);
            }
        }
        if default != SeccompAction::Allow {
            filters.push(program(spared, default, SeccompAction::Allow)?);
        }
        Ok(Filters(filters))
    }
}

impl Calls {
    fn rules(&self) -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
        let mut rules = BTreeMap::new();
        for name in &self.names {
            let Ok(call) = name.parse::<Sysno>() else { continue };
            let rule = if self.args.is_empty() { Vec::new() } else { vec![self.rule()?] };
            rules.insert(i64::from(call.id()), rule);
        }
        Ok(rules)
    }

    fn rule(&self) -> Result<SeccompRule, String> {
        let conditions = self.args.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
        SeccompRule::new(conditions).map_err(|error| error.to_string())
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, String> {
        let (operator, value) = match self.op {
            Operator::NotEqual => (SeccompCmpOp::Ne, self.value),
            Operator::Less => (SeccompCmpOp::Lt, self.value),
            Operator::LessOrEqual => (SeccompCmpOp::Le, self.value),
            Operator::Equal => (SeccompCmpOp::Eq, self.value),
            Operator::GreaterOrEqual => (SeccompCmpOp::Ge, self.value),
            Operator::Greater => (SeccompCmpOp::Gt, self.value),
            Operator::MaskedEqual => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
        };
        SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, operator, value)
            .map_err(|error| error.to_string())
    }
}

impl Filters {
    /// Puts them on the calling thread. Without privileges the kernel asks for no_new_privs first; seccompiler sets it.
    pub(super) fn apply(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|filter| {
            apply_filter(filter).map_err(|error| format!("cannot put the seccomp filter on: {error}"))
        })
    }
}

fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    match action {
        Action::Allow => SeccompAction::Allow,
        Action::Errno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM.cast_unsigned())),
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Trap => SeccompAction::Trap,
        Action::Log => SeccompAction::Log,
    }
}

fn merge(into: &mut BTreeMap<i64, Vec<SeccompRule>>, rules: &BTreeMap<i64, Vec<SeccompRule>>) {
    for (call, more) in rules {
        into.entry(*call)
            .and_modify(|there| {
                // No rule at all means every use of the call.
                if more.is_empty() {
                    there.clear();
                } else if !there.is_empty() {
                    there.extend(more.iter().cloned());
                }
            })
            .or_insert_with(|| more.clone());
    }
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    SeccompFilter::new(rules, otherwise, on_match, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(|error| format!("the filter cannot be made: {error}"))
}

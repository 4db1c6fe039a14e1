//! The environment that a container's program was given. Values stay here: they are compared with what failed, and only the names of
//! those that hold it are told.

use std::fmt;

use lastwords_diagnosis::{evidence::Evidence, variables};

use crate::escape::escape;

/// As much of an environment as is read, in bytes. Kubernetes puts some hundred bytes there for each Service of a namespace.
pub(super) const LIMIT: u64 = 64 * 1024;
/// Variables kept; those beyond are left out. A pod with the variables of thirty Services has about as many.
const MOST: usize = 256;
/// A longer name is none that a person wrote, in bytes; a longer value is no host, port or path.
const NAME_LIMIT: usize = 128;
const VALUE_LIMIT: usize = 1024;

/// Names and values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Of what procfs shows: `NAME=value`, ended by a zero byte each.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let whole = bytes.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == 0);
        let variables = lines.filter_map(|line| {
            let equals = line.iter().position(|byte| *byte == b'=')?;
            let (name, value) = line.split_at_checked(equals)?;
            let value = value.get(1..).filter(|value| value.len() <= VALUE_LIMIT).unwrap_or_default();
            (!name.is_empty())
                .then(|| (escape(name, NAME_LIMIT), String::from_utf8_lossy(value).into_owned()))
        });
        Self { variables: variables.take(MOST).collect() }
    }

    /// Of what somebody gave a program.
    #[must_use]
    pub fn given(variables: &[(String, String)]) -> Self {
        Self { variables: variables.iter().take(MOST).cloned().collect() }
    }

    /// True when it could not be read, or the program was given none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// Puts the names where the evidence has a place for them.
    pub fn name(&self, evidence: &mut Evidence) {
        let pairs = || self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for failure in &mut evidence.failures {
            failure.variables = variables::holding(failure, pairs()).into_iter().map(str::to_owned).collect();
        }
        if let Some(process) = &mut evidence.process {
            process.environment_names = pairs().map(|(name, _)| name.to_owned()).collect();
        }
    }
}

/// Without the values, which belong in no log.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} variables", self.variables.len())
    }
}

#[cfg(test)]
mod tests {
    use lastwords_diagnosis::evidence::{Failure, Process};

    use super::*;

    #[test]
    fn names_go_out_and_values_stay() {
        let environment = Environment::parse(b"DB_HOST=10.0.0.9\0=x\0EMPTY=\0DATA=/data/app\0cut=/data");
        let mut evidence = Evidence {
            process: Some(Process::default()),
            failures: vec![
                Failure { path: "/data/app".into(), ..Failure::default() },
                Failure { address: "10.0.0.9:80/tcp".into(), ..Failure::default() },
                Failure { path: "/other".into(), ..Failure::default() },
            ],
            ..Evidence::default()
        };
        environment.name(&mut evidence);
        assert_eq!(evidence.process.unwrap().environment_names, ["DB_HOST", "EMPTY", "DATA"]);
        let named: Vec<_> = evidence.failures.iter().map(|failure| failure.variables.join(" ")).collect();
        assert_eq!(named, ["DATA", "DB_HOST", ""]);
        assert_eq!(format!("{environment:?}"), "3 variables");
    }

    #[test]
    fn an_environment_is_bounded() {
        let many = b"A=1\0".repeat(1000);
        assert_eq!(Environment::parse(&many).variables.len(), MOST);
        let long = [b"A=".as_slice(), &[b'x'; 5000], b"\0"].concat();
        assert_eq!(Environment::parse(&long).variables, [("A".to_owned(), String::new())]);
        assert!(Environment::parse(b"").is_empty());
    }
}

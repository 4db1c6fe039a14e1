//! What was counted: attached × operation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::table;

/// What is attached, in the order of the table.
pub(super) const ATTACHED: [&str; 8] = [
    "none",
    "empty-fexit",
    "lastwords-fexit",
    "empty-sys-exit",
    "lastwords-sys-exit",
    "opensnoop",
    "exitsnoop",
    "bpftrace",
];

/// What is counted, in the order of the table.
pub(super) const OPERATIONS: [&str; 12] = [
    "getppid",
    "open_close",
    "open_close_young",
    "open_missing_inside",
    "open_missing_outside",
    "connect_ok",
    "connect_refused",
    "write",
    "udp_echo",
    "tcp_send_recv",
    "process",
    "sigterm",
];

/// Instructions by operation.
pub(super) type Row = BTreeMap<String, i64>;

/// One machine's counts.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The exact version of the kernel's package.
    pub(crate) kernel: String,
    /// By what is attached: for `none` instructions of the whole operation, for the others what they add to it.
    pub(super) rows: BTreeMap<String, Row>,
    /// What could not run, with the reason.
    pub(super) skipped: BTreeMap<String, String>,
}

impl Table {
    /// Makes a table of absolute counts.
    pub(super) fn new(
        kernel: String,
        absolute: BTreeMap<String, Row>,
        skipped: BTreeMap<String, String>,
    ) -> Self {
        let bare = absolute.get("none").cloned().unwrap_or_default();
        let rows = absolute
            .into_iter()
            .map(|(attached, mut row)| {
                if attached != "none" {
                    for (operation, count) in &mut row {
                        *count -= bare.get(operation).copied().unwrap_or_default();
                    }
                }
                (attached, row)
            })
            .collect();
        Self { kernel, rows, skipped }
    }

    pub(super) fn get(&self, attached: &str, operation: &str) -> Option<i64> {
        self.rows.get(attached)?.get(operation).copied()
    }

    pub(super) fn json(&self) -> Value {
        let mut rows = Vec::new();
        for attached in ATTACHED {
            for operation in OPERATIONS {
                if let Some(added) = self.get(attached, operation) {
                    rows.push(json!({ "attached": attached, "operation": operation, "added": added }));
                }
            }
        }
        let skipped: Vec<Value> = self
            .skipped
            .iter()
            .map(|(attached, reason)| json!({ "attached": attached, "reason": reason }))
            .collect();
        json!({ "kernel": self.kernel, "rows": rows, "skipped": skipped })
    }

    pub(super) fn shown(&self) -> String {
        let attached: Vec<&str> = ATTACHED.into_iter().filter(|one| self.rows.contains_key(*one)).collect();
        let mut rows = vec![
            std::iter::once("operation")
                .chain(attached.iter().copied())
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        for operation in OPERATIONS {
            let counts = attached.iter().map(|one| match self.get(one, operation) {
                Some(count) if *one == "none" => count.to_string(),
                Some(count) => format!("{count:+}"),
                None => "-".to_owned(),
            });
            rows.push(std::iter::once(operation.to_owned()).chain(counts).collect());
        }
        let mut text =
            format!("kernel {}: instructions of an operation, and what is added to them\n\n", self.kernel);
        text.push_str(&table::render(&rows));
        for (attached, reason) in &self.skipped {
            text.push_str(&format!("SKIPPED {attached}: {reason}\n"));
        }
        text
    }
}

#[cfg(test)]
pub(super) fn table_of(counts: &[(&str, &str, i64)]) -> Table {
    let mut absolute: BTreeMap<String, Row> = BTreeMap::new();
    for (attached, operation, count) in counts {
        absolute.entry((*attached).to_owned()).or_default().insert((*operation).to_owned(), *count);
    }
    Table::new("6.12.95-1".to_owned(), absolute, BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_difference() {
        let table = table_of(&[("none", "getppid", 338), ("opensnoop", "getppid", 493)]);
        assert_eq!(table.get("none", "getppid"), Some(338));
        assert_eq!(table.get("opensnoop", "getppid"), Some(155));
        assert_eq!(
            table.json()["rows"][1],
            json!({ "attached": "opensnoop", "operation": "getppid", "added": 155 })
        );
        assert!(table.shown().contains("+155"));
    }

    #[test]
    fn what_could_not_run_is_no_number() {
        let mut table = table_of(&[("none", "getppid", 338)]);
        table.skipped.insert("bpftrace".to_owned(), "not installed".to_owned());
        assert!(table.shown().contains("SKIPPED bpftrace: not installed"));
        assert_eq!(table.json()["skipped"][0]["reason"], "not installed");
        assert_eq!(table.json()["rows"].as_array().map(Vec::len), Some(1));
    }
}

//! What Lastwords may cost, and whether it does.

use super::table::Table;
use crate::table;

/// A limit of instructions added.
enum Limit {
    /// So many.
    Instructions(i64),
    /// So many hundredths of what an empty program at the same hooks adds. Where it adds nothing, nothing may be added.
    Floor(i64),
    /// So many hundredths of the bare operation.
    Bare(i64),
}

use Limit::{Bare, Floor, Instructions};

/// Operation, by which way in, limit.
const TARGETS: &[(&str, &str, Limit)] = &[
    ("getppid", "fexit", Instructions(0)),
    ("getppid", "sys-exit", Floor(110)),
    ("open_close", "fexit", Floor(110)),
    ("open_close", "fexit", Instructions(215)),
    ("open_close", "sys-exit", Floor(115)),
    ("open_missing_inside", "fexit", Instructions(750)),
    ("open_missing_outside", "fexit", Instructions(270)),
    ("write", "fexit", Floor(110)),
    ("write", "sys-exit", Floor(110)),
    ("udp_echo", "fexit", Floor(110)),
    ("udp_echo", "sys-exit", Floor(110)),
    ("tcp_send_recv", "fexit", Floor(110)),
    ("tcp_send_recv", "sys-exit", Floor(110)),
    ("process", "fexit", Bare(1)),
    ("process", "sys-exit", Bare(1)),
];

/// Instructions that no limit is about: the last digit of an operation on the network is not the same in every boot.
const NOISE: i64 = 2;

/// Every target with what was counted.
pub(super) fn shown(counted: &Table) -> String {
    let mut rows =
        vec![["operation", "way in", "target", "limit", "counted", ""].map(str::to_owned).to_vec()];
    for (operation, way_in, limit) in TARGETS {
        let added = counted.get(&format!("lastwords-{way_in}"), operation);
        let most = limit.most(counted, operation, way_in);
        let (verdict, added, most) = match (added, most) {
            (Some(added), Some(most)) => {
                let verdict = if added <= most + NOISE { "met" } else { "NOT MET" };
                (verdict, added.to_string(), most.to_string())
            }
            _ => ("not counted", "-".to_owned(), "-".to_owned()),
        };
        rows.push(vec![
            (*operation).to_owned(),
            (*way_in).to_owned(),
            limit.text(),
            most,
            added,
            verdict.to_owned(),
        ]);
    }
    table::render(&rows)
}

impl Limit {
    fn most(&self, counted: &Table, operation: &str, way_in: &str) -> Option<i64> {
        match self {
            Instructions(most) => Some(*most),
            Floor(hundredths) => {
                Some(counted.get(&format!("empty-{way_in}"), operation)?.max(0) * hundredths / 100)
            }
            Bare(hundredths) => Some(counted.get("none", operation)? * hundredths / 100),
        }
    }

    fn text(&self) -> String {
        match self {
            Instructions(most) => format!("at most {most}"),
            Floor(hundredths) => {
                format!("{}.{:02} × an empty program there", hundredths / 100, hundredths % 100)
            }
            Bare(hundredths) => format!("{hundredths} % of the operation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::table_of;
    use super::*;

    #[test]
    fn each_target_is_met_not_met_or_not_counted() {
        let text = shown(&table_of(&[
            ("none", "getppid", 338),
            ("lastwords-fexit", "getppid", 338),
            ("empty-sys-exit", "getppid", 338 + 134),
            ("lastwords-sys-exit", "getppid", 338 + 160),
        ]));
        let line = |number: usize| text.lines().nth(number).unwrap_or_default().to_owned();
        assert!(line(1).ends_with(" met") && !line(1).contains("NOT"), "{text}");
        assert!(line(2).contains("147") && line(2).ends_with("NOT MET"), "{text}");
        assert!(line(3).ends_with("not counted"), "{text}");
    }
}

//! A line a crash.

use lastwords_proto::v1::Crash;
use prost_types::Timestamp;

use crate::escape::escape;
use crate::names::{cause_name, confidence_words};
use crate::style::Style;
use crate::time;

/// Longest cell in characters; an object may be a path of 255 bytes.
const WIDEST_CELL: usize = 60;

const HEADINGS: [&str; 7] = ["AGE", "NAMESPACE", "POD", "CONTAINER", "CAUSE", "CONFIDENCE", "OBJECT"];

/// A table of crashes with its headings, columns as wide as they need to be. Ends with a new line.
pub fn list_text(crashes: &[Crash], now: &Timestamp, colour: bool) -> String {
    let style = Style { colour };
    let rows: Vec<[String; 7]> = crashes.iter().map(|crash| row(crash, &age(crash, now))).collect();
    table(HEADINGS, &rows, style)
}

/// Rows under their headings, columns as wide as they need to be. Ends with a new line.
pub(crate) fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    style: Style,
) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heading.len())
        })
        .collect();
    let mut text = style.bold(&aligned(&headings.map(str::to_owned), &widths));
    text.push('\n');
    for row in rows {
        text.push_str(&aligned(row, &widths));
        text.push('\n');
    }
    text
}

/// One crash of a live watch, with the moment instead of an age: it does not get older on the screen. No new line at its end.
pub fn watch_line(crash: &Crash, colour: bool) -> String {
    let style = Style { colour };
    let at = crash.observed_at.as_ref().map_or_else(|| "-".to_owned(), time::moment);
    let [at, namespace, pod, container, cause, confidence, object] = row(crash, &at);
    let revision = match crash.diagnosis.as_ref().map_or(0, |diagnosis| diagnosis.revision) {
        0 | 1 => String::new(),
        newer => style.dim(&format!(" (revision {newer})")),
    };
    format!("{at}  {namespace}/{pod} {container}  {}  {object}  {confidence}{revision}", style.red(&cause))
}

fn row(crash: &Crash, when: &str) -> [String; 7] {
    let container = crash.container.clone().unwrap_or_default();
    let diagnosis = crash.diagnosis.clone().unwrap_or_default();
    let short_id = container.id.get(..12).unwrap_or(&container.id);
    let pod = if container.pod_name.is_empty() { short_id } else { &container.pod_name };
    [
        when.to_owned(),
        cell(&container.namespace),
        format!("{}{}", cell(pod), if crash.pod_unconfirmed { " (unconfirmed)" } else { "" }),
        cell(&container.name),
        format!("{}{}", cause_name(diagnosis.cause()), if diagnosis.planned { " (planned)" } else { "" }),
        confidence_words(diagnosis.confidence()).to_owned(),
        cell(&diagnosis.object),
    ]
}

fn age(crash: &Crash, now: &Timestamp) -> String {
    crash
        .observed_at
        .as_ref()
        .map_or_else(|| "-".to_owned(), |at| time::duration(time::seconds_between(at, now)))
}

pub(crate) fn cell(text: &str) -> String {
    let text = escape(text);
    if text.is_empty() {
        "-".to_owned()
    } else if text.chars().count() > WIDEST_CELL {
        let cut: String = text.chars().take(WIDEST_CELL - 1).collect();
        format!("{cut}…")
    } else {
        text
    }
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("   ").trim_end().to_owned()
}

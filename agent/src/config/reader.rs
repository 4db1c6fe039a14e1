//! Takes values out of a TOML table, key by key, and collects what is wrong with them instead of stopping at the first problem.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Value;

/// A table that is being read. What is left in it at the end was never asked for.
pub(super) struct Table<'a> {
    values: toml::Table,
    prefix: String,
    known: Vec<&'static str>,
    problems: &'a mut Vec<String>,
}

impl<'a> Table<'a> {
    pub(super) fn new(values: toml::Table, prefix: &str, problems: &'a mut Vec<String>) -> Self {
        Self { values, prefix: prefix.to_owned(), known: Vec::new(), problems }
    }

    /// The table `key` in this one, empty when there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Table<'_> {
        let values = match self.take(key) {
            None => toml::Table::new(),
            Some(Value::Table(values)) => values,
            Some(other) => {
                self.report(key, &format!("must be a table, not {}", kind(&other)));
                toml::Table::new()
            }
        };
        Table::new(values, &format!("{key}."), self.problems)
    }

    pub(super) fn text(
        &mut self,
        key: &'static str,
        default: &str,
        check: fn(&str) -> Result<(), String>,
    ) -> String {
        let text = match self.take(key) {
            None => default.to_owned(),
            Some(Value::String(text)) => text,
            Some(other) => {
                self.report(key, &format!("must be a text in quotes, not {}", kind(&other)));
                return default.to_owned();
            }
        };
        if let Err(problem) = check(&text) {
            self.report(key, &format!("{problem} (it is {text:?})"));
        }
        text
    }

    pub(super) fn path(&mut self, key: &'static str, default: &str) -> PathBuf {
        PathBuf::from(self.text(key, default, is_absolute))
    }

    pub(super) fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.has(key).then(|| self.path(key, "/"))
    }

    pub(super) fn optional_address(&mut self, key: &'static str) -> Option<SocketAddr> {
        self.has(key).then(|| self.text(key, "", is_socket_address).parse().ok())?
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let texts = value.as_array().and_then(|values| {
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.unwrap_or_else(|| {
            self.report(key, "must be a list of texts, for example [\"a\", \"b\"]");
            Vec::new()
        })
    }

    pub(super) fn switch(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(switch)) => switch,
            Some(other) => {
                self.report(key, &format!("must be true or false, not {}", kind(&other)));
                default
            }
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: usize,
        allowed: RangeInclusive<usize>,
    ) -> usize {
        let Some(value) = self.take(key) else {
            return default;
        };
        let number = whole(&value).and_then(|number| usize::try_from(number).ok());
        number.filter(|number| allowed.contains(number)).unwrap_or_else(|| {
            self.report(key, &format!("must be a number from {} to {}", allowed.start(), allowed.end()));
            default
        })
    }

    /// Bytes, as a number or as a text with Ki, Mi or Gi.
    pub(super) fn bytes(&mut self, key: &'static str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.take(key) else {
            return default;
        };
        let bytes = match &value {
            Value::String(text) => parse_bytes(text),
            other => whole(other),
        };
        bytes.filter(|bytes| allowed.contains(bytes)).unwrap_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            self.report(
                key,
                &format!("must be a number of bytes from {least} to {most}, or a text such as \"64Mi\""),
            );
            default
        })
    }

    /// Reports problems that were found in the value of `key` outside of here.
    pub(super) fn report_all(&mut self, key: &str, problems: Vec<String>) {
        for problem in problems {
            self.report(key, &problem);
        }
    }

    /// Reports every key that was not asked for.
    pub(super) fn refuse_the_rest(mut self) {
        let known = self.known.join(", ");
        for key in std::mem::take(&mut self.values).keys() {
            self.report(&format!("{key:?}").replace('"', ""), &format!("is no key (there are {known})"));
        }
    }

    /// Whether there is such a key. When there is none it is a key all the same.
    fn has(&mut self, key: &'static str) -> bool {
        let is_there = self.values.contains_key(key);
        if !is_there {
            self.known.push(key);
        }
        is_there
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.remove(key)
    }

    pub(super) fn report(&mut self, key: &str, problem: &str) {
        self.problems.push(format!("{}{key} {problem}", self.prefix));
    }
}

/// A whole number. Also one that is written as a float: Helm writes all numbers of its values so (10 becomes 10.0).
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        // 2^53: up to there a float has every whole number.
        Value::Float(number) if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(number) => {
            Some(*number as u64)
        }
        _ => None,
    }
}

fn is_socket_address(address: &str) -> Result<(), String> {
    let problem = || "must be an address and a port such as 0.0.0.0:7445".to_owned();
    address.parse::<SocketAddr>().map(|_| ()).map_err(|_| problem())
}

fn is_absolute(path: &str) -> Result<(), String> {
    let plain = path.starts_with('/') && !path.contains('\0');
    if plain { Ok(()) } else { Err("must be an absolute path".to_owned()) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)? {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

//! Text, JSON or YAML.

use clap::ValueEnum;
use serde_json::Value;

use crate::Error;

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON value (`watch`: one a line).
    Json,
    /// YAML (`watch`: one document a crash).
    Yaml,
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub(crate) format: Format,
    pub(crate) colour: bool,
}

impl Output {
    /// Prints in this format; colours concern only text.
    pub fn new(format: Format, colour: bool) -> Self {
        Self { format, colour }
    }

    /// The text of an answer: `text` for people, else `json` in the format asked for. Ends with a new line.
    pub(crate) fn one(
        self,
        text: impl FnOnce(bool) -> String,
        json: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<String, Error> {
        match self.format {
            Format::Text => Ok(text(self.colour)),
            Format::Json => {
                serde_json::to_string_pretty(&json()?).map(|json| json + "\n").map_err(cannot_print)
            }
            Format::Yaml => serde_norway::to_string(&json()?).map_err(cannot_print),
        }
    }

    /// The text of one answer of many: a line, or a document of its own.
    pub(crate) fn one_of_many(
        self,
        text: impl FnOnce(bool) -> String,
        json: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<String, Error> {
        match self.format {
            Format::Text => Ok(text(self.colour) + "\n"),
            Format::Json => Ok(format!("{}\n", json()?)),
            Format::Yaml => Ok(format!("---\n{}", serde_norway::to_string(&json()?).map_err(cannot_print)?)),
        }
    }
}

pub(crate) fn cannot_print(error: impl std::fmt::Display) -> Error {
    Error::Format(error.to_string())
}

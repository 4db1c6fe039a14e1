//! What a person reads: crashes as text.
//!
//! Pure functions from messages to strings, with the time as an argument, so that `lastwords explain` and `lastwords-agent try`
//! print the same screen. All text that comes from containers is escaped here, whatever was done to it before.

mod escape;
mod evidence;
mod list;
mod memory;
mod names;
mod nodes;
mod owner;
mod screen;
mod style;
mod time;

pub use escape::escape;
pub use list::{list_text, watch_line};
pub use names::{cause_by_name, cause_name, cause_words};
pub use nodes::nodes_text;
pub use owner::owner_text;
pub use screen::{crash_text, explain_text};

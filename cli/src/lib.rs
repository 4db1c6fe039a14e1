//! The command line's parts: [`args`] says what is asked, [`connect`] whom, [`commands`] asks it, [`output`] prints the answer as
//! text (by `lastwords-render`), JSON or YAML.

pub mod args;
mod channel;
mod commands;
mod connect;
mod error;
mod output;
mod server;

pub use args::Arguments;
pub use commands::run;
pub use error::Error;
pub use output::Output;

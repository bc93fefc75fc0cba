//! `cluster.toml` to specification: every error at its line, every risk in words.
//!
//! [`load`] reads a file with its snippets, [`parse`] one self-contained text; both report all
//! errors at once, and give a specification only where there is none. [`render`] shows what they
//! found. [`diff`] compares two specifications, [`risk`] looks at one with a [`Measurement`],
//! [`timers`] and [`rto`] show the numbers, [`name_profile`] writes
//! what `init` picked. This crate decides nothing about running clusters.

pub mod code;
mod diagnostic;
pub mod diff;
pub mod keys;
pub mod lapse;
mod load;
pub mod measurement;
mod naming;
mod print;
mod read;
pub mod reference;
mod render;
pub mod risk;
pub mod rto;
mod rules;
mod sink;
mod source;
mod suggest;
pub mod timers;

pub use code::{Code, Severity};
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, DiagnosticJson};
pub use diff::{Diff, Placed, diff};
pub use load::{Loaded, Parsed, SNIPPETS_MAX, TEXT_BYTES_MAX, load, parse};
pub use measurement::{Measurement, pick_profile};
pub use naming::{NamingError, name_profile};
pub use print::to_toml;
pub use render::{render, summary, to_json};
pub use sink::Places;
pub use source::{Place, Position, Source};

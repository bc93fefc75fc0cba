//! What lies in a repository, behind its seals; what people type; what PostgreSQL says.

pub(super) mod canonical;
pub(super) mod chain;
pub(super) mod index;
pub(super) mod key_texts;
pub(super) mod log_pages;
pub(super) mod log_piece;
pub(super) mod memories;
pub(super) mod node;
pub(super) mod pack;
pub(super) mod postgres;
pub(super) mod proof;
pub(super) mod record;
pub(super) mod schedule;
mod sealed;
pub(super) mod spool;
pub(super) mod wrapped_key;

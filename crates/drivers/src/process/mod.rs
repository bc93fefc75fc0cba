//! The driver `process`: what a program's specification means on this machine.
//!
//! It prepares and contains programs; when they start, stop and change roles is decided by the
//! launcher's instance machine (`launcher/`).

pub mod cgroup;
pub mod containment;
pub mod logs;
pub mod notify;
pub mod plan;
pub mod signals;
pub mod table;
pub mod user;

//! The nouns of Backstay: ids, time, profile, specification, cluster state, commands, operations,
//! reports, reasons and the heartbeat.
//!
//! This crate holds data and the rules that make it well-formed. It decides nothing, reads no
//! clock and does no I/O; everything above it speaks in its types.
#![no_std]

extern crate alloc;

pub mod address;
pub mod authority;
pub mod command;
pub mod heartbeat;
pub mod ids;
pub mod operation;
pub mod profile;
pub mod reason;
pub mod report;
pub mod spec;
pub mod state;
pub mod time;
pub mod vault;

pub use address::AddressSpec;
pub use command::{Command, Entry};
pub use heartbeat::{Ack, Grant, Heartbeat, Round};
pub use ids::{Epoch, NodeName, ReplicaId, ResourceName};
pub use operation::{Operation, Outcome, Refusal};
pub use profile::{Profile, Timers};
pub use reason::Reason;
pub use report::{Evidence, InstanceStatus, Report};
pub use spec::{ClusterSpec, NodeSpec, ResourceSpec};
pub use state::ClusterState;
pub use time::{ClusterMs, Moment, Span};

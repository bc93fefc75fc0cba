//! The demo: a real cluster of three nodes on loopback, a service, a client, and one fault after
//! another, each judged from the records that all parts wrote.

pub mod judge;
pub mod relay;

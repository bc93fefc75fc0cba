//! Tests that start the binary: one program, so that it is linked once.

mod certificates;
mod cluster_rig;
mod demo_orders;
mod demo_relay;
mod demo_rig;
mod demo_whole;
mod figures;
mod generations;
mod health;
mod logging;
mod measuring;
mod node_parts;
mod operating;
mod reader_gone;
mod rotation;
mod vault_cluster;

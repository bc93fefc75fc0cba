//! Everything that crosses the network between nodes: mutual TLS, messages over it, and sealed
//! datagrams. There is no plaintext mode, and nothing here knows what a message says.

pub mod accept;
pub mod boot;
pub mod counters;
pub mod dial;
pub mod gate;
pub mod listen;
pub mod peers;
pub mod seal;
pub mod tls;
pub mod verify;
mod window;

pub use boot::Boot;
pub use counters::{Counters, Dropped, Port, Refused, Undelivered};
pub use dial::DialMap;
pub use peers::{
    Belongs, Generations, Local, OnMessage, OnSuperseded, Peer, PeerOptions, PeerStats, Peers, Sent,
};
pub use seal::{Opened, Opener, Sealer};
pub use tls::Tls;

//! The driver for addresses: an IP address on an interface of this node, held by a small program
//! of Backstay's own, the *keeper*, which the launcher runs like any other.
//!
//! - [`keeper`]: that program: looks for duplicates, adds the address, announces it, watches it;
//! - [`announce`]: when it announces; [`frames`]: what goes over the wire;
//! - [`handle`]: what launcher and guard hold to take the address down and see it gone;
//! - [`interface`]: which interface gets the address; [`netlink`]: how the kernel is asked.
//!
//! Whoever adds the address is a process of the instance: it is killed first, then the address is
//! taken down, then both are seen to be gone. So nothing can bring it back behind the guard.

mod announce;
mod frames;
pub(crate) mod fuzzing;
mod handle;
mod interface;
pub mod keeper;
mod netlink;
mod place;
mod program;
mod talk;
mod wire;

pub use handle::AddressHandle;
pub use interface::FindError;
pub use place::AddressAt;
pub(crate) use program::{of_instance, take_down_leftovers, write_down};
pub use wire::PacketKind;

//! What launcher and guard say to each other on `guard.sock`: one postcard message per packet
//! (`SOCK_SEQPACKET`), small enough for buffers on the stack.

use model::Epoch;
use serde::{Deserialize, Serialize};

/// Largest packet in bytes: two paths and a name fit well.
pub const PACKET_BYTES_MAX: usize = 2_048;

/// What the launcher tells the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuard<'a> {
    /// Stop this instance when the lease ends. Answered with `Armed` or `NotArmed`.
    Arm {
        /// Of which resource; replaces what was armed for it.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
        /// The cgroup's directory; empty where it has none.
        cgroup: &'a str,
        /// Leader of its session and process group.
        pid: u32,
        /// When that process started, in clock ticks since boot (field 22 of its stat).
        started: u64,
        /// Its lease file.
        lease: &'a str,
        /// The node's lease that it is to be active under.
        lease_number: u64,
        /// Its `BACKSTAY_SOCKET`, which tells its processes from others.
        socket: &'a str,
        /// The address that it may bring up ([`crate::address::AddressAt`]); empty for none.
        address: &'a str,
    },
    /// The launcher can't stop it.
    Kill {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The instance is gone or a standby.
    Disarm {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// First on every connection that is kept: no other guard is connected.
    Welcome,
}

/// What the guard tells the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuard<'a> {
    /// First on every connection.
    Hello {
        /// Random, new with every start of the guard.
        incarnation: u64,
    },
    /// Will stop it.
    Armed {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Won't: no lease runs, or it can't.
    NotArmed {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
        /// Why.
        reason: &'a str,
    },
    /// Stopped it because the lease ended.
    Burnt {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
        /// Whether everything was seen to be gone.
        empty: bool,
    },
    /// Could not stop it, and could not or may not reboot.
    Alarm {
        /// Of which resource.
        resource: &'a str,
        /// Under which epoch.
        epoch: Epoch,
        /// What was tried.
        reason: &'a str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_fits_in_a_packet() {
        let path = "p".repeat(600);
        let message = ToGuard::Arm {
            resource: &"r".repeat(model::ids::NAME_MAX),
            epoch: Epoch { generation: u64::MAX, counter: u64::MAX },
            cgroup: &path,
            pid: u32::MAX,
            started: u64::MAX,
            lease: &path,
            lease_number: u64::MAX,
            socket: &path,
            address: &"a".repeat(64),
        };
        let mut buffer = [0u8; PACKET_BYTES_MAX];
        let used = postcard::to_slice(&message, &mut buffer).unwrap().len();
        assert_eq!(postcard::from_bytes::<ToGuard<'_>>(&buffer[..used]).unwrap(), message);
    }
}

//! A resource of kind `address`: an IP address that moves between nodes, and the program of
//! Backstay's own that holds it.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::spec::{ProcessSpec, Promote, Ready, ResourceKind};

/// Longest name of a network interface (`IFNAMSIZ` of Linux, less its NUL).
pub const INTERFACE_MAX: usize = 15;
/// How long the keeper of an address may take to be there, in milliseconds.
const START_MS: u64 = 5_000;
/// How long it may take to look for duplicates and to add the address, in milliseconds.
const PROMOTE_MS: u64 = 2_000;
/// How long it may take to remove the address and to leave, in milliseconds.
const STOP_MS: u64 = 1_000;

/// An address that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSpec {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix: u8,
    /// The interface that gets it; where absent, the one with an address in the same network.
    pub interface: Option<String>,
}

impl AddressSpec {
    /// Whether an address lies in the same network.
    #[must_use]
    pub fn is_near(&self, other: IpAddr) -> bool {
        network_of(self.ip, self.prefix) == network_of(other, self.prefix)
    }

    /// The first and, for IPv4, the last address of its network, which no host may have; nothing
    /// for networks that have no such addresses.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) if self.prefix < 31 => {
                let host = u32::from(ip) & (u32::MAX >> self.prefix);
                host == 0 || host == u32::MAX >> self.prefix
            }
            IpAddr::V6(ip) if self.prefix < 127 => u128::from(ip) & (u128::MAX >> self.prefix) == 0,
            _ => false,
        }
    }
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// The network of an address; `None` where the prefix is longer than the address.
fn network_of(ip: IpAddr, prefix: u8) -> Option<(bool, u128)> {
    let masked = |bits: u128, width: u32| {
        let host = width.checked_sub(u32::from(prefix))?;
        Some(bits.checked_shr(host).unwrap_or(0))
    };
    match ip {
        IpAddr::V4(ip) => Some((false, masked(u128::from(u32::from(ip)), 32)?)),
        IpAddr::V6(ip) => Some((true, masked(u128::from(ip), 128)?)),
    }
}

impl ResourceKind {
    /// The program that does the work, and how it is run. For an address that is a program of
    /// Backstay's own, which changes roles when told; its command is the launcher's to fill in.
    #[must_use]
    pub fn program(&self) -> Cow<'_, ProcessSpec> {
        match self {
            ResourceKind::Process(process) => Cow::Borrowed(process),
            ResourceKind::Address(_) => Cow::Owned(ProcessSpec {
                ready: Ready::Notify,
                start_ms: START_MS,
                stop_ms: STOP_MS,
                promote: Promote::Socket,
                promote_ms: PROMOTE_MS,
                ..ProcessSpec::default()
            }),
        }
    }

    /// Whether its instances change roles when told, instead of being started anew.
    #[must_use]
    pub fn changes_roles(&self) -> bool {
        match self {
            ResourceKind::Process(process) => process.promote == Promote::Socket,
            ResourceKind::Address(_) => true,
        }
    }

    /// Its name in `cluster.toml`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            ResourceKind::Process(_) => "process",
            ResourceKind::Address(_) => "address",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(ip: &str, prefix: u8) -> AddressSpec {
        AddressSpec { ip: ip.parse().unwrap(), prefix, interface: None }
    }

    #[test]
    fn a_network_is_what_the_prefix_says() {
        for (ip, prefix, other, near) in [
            ("10.1.0.100", 24, "10.1.0.1", true),
            ("10.1.0.100", 24, "10.1.1.1", false),
            ("10.1.0.100", 0, "192.0.2.1", true),
            ("10.1.0.100", 32, "10.1.0.100", true),
            ("10.1.0.100", 32, "10.1.0.101", false),
            ("fd00::1", 64, "fd00::2:1", true),
            ("fd00::1", 64, "fd00:0:0:1::1", false),
            ("10.1.0.100", 24, "fd00::1", false),
        ] {
            assert_eq!(spec(ip, prefix).is_near(other.parse().unwrap()), near, "{ip} {other}");
        }
    }

    #[test]
    fn the_ends_of_a_network_are_reserved() {
        for (ip, prefix, reserved) in [
            ("10.1.0.0", 24, true),
            ("10.1.0.255", 24, true),
            ("10.1.0.255", 16, false),
            ("10.1.0.0", 31, false),
            ("10.1.0.0", 32, false),
            ("fd00::", 64, true),
            ("fd00::1", 64, false),
            ("fd00::", 128, false),
        ] {
            assert_eq!(spec(ip, prefix).is_reserved(), reserved, "{ip}/{prefix}");
        }
    }
}

//! An address at its interface, as one word: `10.1.0.100/24%3`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressAt {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix: u8,
    /// Number of the interface.
    pub interface: u32,
}

impl fmt::Display for AddressAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}%{}", self.ip, self.prefix, self.interface)
    }
}

/// The text is no address at an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not ADDRESS/PREFIX%INTERFACE")]
pub struct NotAnAddress(String);

impl FromStr for AddressAt {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<AddressAt, NotAnAddress> {
        let parse = || {
            let (address, interface) = text.split_once('%')?;
            let (ip, prefix) = address.split_once('/')?;
            let at = AddressAt {
                ip: ip.parse().ok()?,
                prefix: prefix.parse().ok()?,
                interface: interface.parse().ok()?,
            };
            let width = if at.ip.is_ipv4() { 32 } else { 128 };
            (at.prefix <= width && at.interface > 0).then_some(at)
        };
        parse().ok_or_else(|| NotAnAddress(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        for text in ["10.1.0.100/24%3", "fd00::64/64%12"] {
            assert_eq!(text.parse::<AddressAt>().unwrap().to_string(), text);
        }
        for text in ["10.1.0.100/24", "10.1.0.100%3", "10.1.0.100/33%3", "x/24%3", "10.1.0.1/8%0"] {
            assert!(text.parse::<AddressAt>().is_err(), "{text}");
        }
    }
}

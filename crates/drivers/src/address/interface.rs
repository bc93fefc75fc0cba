//! Which interface of this node gets an address.

use std::io;
use std::net::IpAddr;

use model::AddressSpec;

use super::AddressAt;
use super::netlink::Netlink;

/// Why no interface can be said.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The kernel.
    #[error("the interfaces of this node can't be listed")]
    Io(#[from] io::Error),
    /// The one that was named.
    #[error("this node has no interface {0:?}: name one that it has in `interface`")]
    NoInterface(String),
    /// None was named, and none fits.
    #[error(
        "no interface of this node has an address in the network of {0}: name the interface that \
         is to get it in `interface`"
    )]
    NoneNear(String),
    /// It is there, and Backstay did not put it there.
    #[error(
        "{0} is on interface {1} already, and not by Backstay: remove it there, or two nodes would \
         hold it"
    )]
    Taken(IpAddr, u32),
}

/// An interface, at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) hardware: Option<[u8; 6]>,
    pub(super) running: bool,
}

/// Finds the interface: the one named, else the one with an address in the same network. The
/// address itself must not be there.
pub(super) fn find(spec: &AddressSpec) -> Result<AddressAt, FindError> {
    let netlink = Netlink::open()?;
    let at = |interface| AddressAt { ip: spec.ip, prefix: spec.prefix, interface };
    let (mut near, mut taken) = (None, None);
    netlink.addresses(spec.ip, |listed| {
        if listed.ip == spec.ip {
            taken = Some(listed.interface);
        } else if spec.is_near(listed.ip) {
            near = near.or(Some(listed.interface));
        }
    })?;
    if let Some(interface) = taken {
        return Err(FindError::Taken(spec.ip, interface));
    }
    let Some(name) = &spec.interface else {
        return near.map(at).ok_or_else(|| FindError::NoneNear(spec.to_string()));
    };
    let mut named = None;
    netlink.links(|link| {
        if link.name == name {
            named = Some(link.index);
        }
    })?;
    named.map(at).ok_or_else(|| FindError::NoInterface(name.clone()))
}

/// What an interface is like now; nothing where it is no more.
pub(super) fn look(netlink: &Netlink, index: u32) -> io::Result<Option<Interface>> {
    let mut found = None;
    netlink.links(|link| {
        if link.index == index {
            let name = link.name.to_owned();
            found = Some(Interface { name, hardware: link.hardware, running: link.running });
        }
    })?;
    Ok(found)
}

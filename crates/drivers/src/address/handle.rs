//! What launcher and guard hold of an address that may be up: enough to take it down and to see
//! that it is gone. After a value is made, nothing here allocates.

use std::io;

use super::AddressAt;
use super::netlink::Netlink;

/// An address that may be up on this node.
#[derive(Debug)]
pub struct AddressHandle {
    at: AddressAt,
    netlink: Netlink,
}

impl AddressHandle {
    /// Opens all that taking it down will need.
    ///
    /// # Errors
    /// What the kernel says; also where this process may not change addresses.
    pub fn open(at: AddressAt) -> io::Result<AddressHandle> {
        let netlink = Netlink::open()?;
        netlink.may_change(at)?;
        Ok(AddressHandle { at, netlink })
    }

    /// Which address, and where.
    #[must_use]
    pub fn at(&self) -> AddressAt {
        self.at
    }

    /// Takes the address down, if it is up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_down(&self) -> io::Result<()> {
        self.netlink.remove(self.at)
    }

    /// Whether the kernel lists it no more; what is left is taken down again.
    ///
    /// # Errors
    /// What the kernel says, also "can't tell": the caller then goes on trying.
    pub fn strike(&self) -> io::Result<bool> {
        let Some(listed) = self.netlink.listed(self.at)? else { return Ok(true) };
        self.netlink.remove(listed)?;
        self.is_gone()
    }

    /// Whether the kernel lists it no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_gone(&self) -> io::Result<bool> {
        Ok(self.netlink.listed(self.at)?.is_none())
    }
}

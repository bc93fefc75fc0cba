//! The real lease behind the gate: the file `BACKSTAY_LEASE`, mapped, so that a look costs
//! nanoseconds.

use std::path::Path;

use drivers::lease::{InstanceLease, LeaseRole};
use model::{Epoch, Moment};

use super::OrdersError;
use super::gate::Lease;

/// The mapped file.
#[derive(Debug)]
pub struct LeaseFile(InstanceLease);

impl LeaseFile {
    /// Maps the file.
    ///
    /// # Errors
    /// [`OrdersError::Lease`] where it can't be mapped or is no such file.
    pub fn open(path: &Path) -> Result<LeaseFile, OrdersError> {
        let opened = InstanceLease::open(path);
        let failed = |source| OrdersError::Lease { path: path.to_owned(), source };
        opened.map(LeaseFile).map_err(failed)
    }
}

impl Lease for LeaseFile {
    /// The end is read first: where the launcher hands the file to another epoch meanwhile, the
    /// epoch no longer fits.
    fn end(&self, epoch: Epoch) -> Option<Moment> {
        let end = self.0.lease_end();
        let holds = self.0.role() == LeaseRole::Active && self.0.epoch() == epoch;
        holds.then_some(end)
    }
}

//! A host is reset: a conventional or CXL reset of its logical device (CXL 3.1, 9.13.3).

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{
    Device, Refusal,
    host::{Chain, OfferState},
};
use crate::command::{HostId, Sanitize, events::DynamicCapacityEventKind};

impl Device {
    /// A host was reset. Its log is empty; its shares of sharable capacity have ended, by force
    /// and without a record; its offers have ended, too; exclusive capacity that it accepted
    /// stays its. The manager is told of refused offers and of released shares.
    ///
    /// # Errors
    /// There is no such host.
    pub fn reset(&mut self, host: HostId) -> Result<(), Refusal> {
        let host = self.known(host)?;
        self.hosts[host].log.reset();
        self.hosts[host].answer = Chain::Idle;
        self.hosts[host].release = Chain::Idle;
        for offer in core::mem::take(&mut self.hosts[host].offers) {
            if offer.state == OfferState::Open {
                self.withdraw(host, &offer.extents, Sanitize::Never);
            }
            self.tell_refused(host, &offer);
        }
        let held = self.hosts[host].held.iter();
        let shares: Vec<DpaRange> = held
            .filter(|extent| self.shared.contains_key(&extent.tag))
            .map(|extent| extent.range)
            .collect();
        if !shares.is_empty() {
            let ended: Vec<DcExtent> = self.end(host, &shares);
            self.tell_manager(host, DynamicCapacityEventKind::CapacityReleased, &ended);
        }
        self.tags_changed();
        Ok(())
    }
}

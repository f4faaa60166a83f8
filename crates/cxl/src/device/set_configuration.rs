//! 5602h: a manager configures a region, for all hosts (CXL 3.1, 7.6.7.6.3).

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{Device, Refusal, config::SanitizeControl};
use crate::command::{events::DynamicCapacityEventKind, fabric_manager::SetConfiguration};

impl Device {
    /// Gives a region another block size, or has what is released of it overwritten or not. All
    /// hosts are told, also if nothing is different.
    ///
    /// # Errors
    /// Something of the region is in use, or being overwritten; it cannot be configured so; or
    /// the log of a host has no room for the record. Nothing has changed.
    pub fn set_configuration(&mut self, request: &SetConfiguration) -> Result<(), Refusal> {
        let SetConfiguration { region, block_size, sanitize } = *request;
        let configured = self.region(region)?;
        if configured.taken() != 0 {
            return Err(Refusal::RegionInUse { region });
        }
        let block_sizes = configured.config.block_sizes;
        if !block_size.is_power_of_two() || block_sizes & block_size == 0 {
            return Err(Refusal::BlockSize { block_size, block_sizes });
        }
        let is_fixed = configured.config.sanitize_control == SanitizeControl::Fixed;
        if is_fixed && configured.config.sanitize != sanitize {
            return Err(Refusal::SanitizeFixed { region });
        }
        (0..self.hosts.len()).try_for_each(|host| self.check_log(host, 1))?;
        let configured = &mut self.regions[usize::from(region)].config;
        configured.block_size = block_size;
        configured.sanitize = sanitize;
        let nothing = DcExtent { range: DpaRange::new(0, 0), tag: Tag::NULL, sequence: 0 };
        let kind = DynamicCapacityEventKind::RegionConfigurationUpdated;
        for host in 0..self.hosts.len() {
            self.tell_host(host, kind, region, &[nothing]);
        }
        Ok(())
    }
}

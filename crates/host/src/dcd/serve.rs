//! From a device in sysfs to one that is served: what is looked at, in which order, and what is
//! changed.
//!
//! First everything is checked that can be: the device, the way to it, the window, the dax region,
//! its registers, its regions. Then the device is enabled, the default dax device made empty,
//! decoders committed, one for each region. A decoder that is committed is not taken back when a
//! later step fails: nothing reads or writes its addresses, and the next attempt adopts it.

use std::time::Duration;

use memtide_cxl::command::dynamic_capacity::GetConfiguration;
use memtide_engine::dynamic_capacity::{DeviceConfig, InputError, Partition, Splitting};
use memtide_units::{ByteSize, DpaRange};

use super::{
    agent::{AcceptPolicy, Agent, DEVICE, Say, Setup},
    decoder::{self, Decoders, Span},
    error::DcdError,
    mailbox::{CommandError, Commands, Mailbox},
    memory::Memory,
    pci::{self, Block, PciDevice},
    pool::Pool,
    registers::{self, Capability},
    report::Report,
    window::{self, Place},
};
use crate::plan::Kernel;

/// Regions that a device has at most.
const REGIONS_MAX: u8 = 8;

/// A device of this machine that is served.
#[derive(Debug)]
pub struct Served {
    device: PciDevice,
    agent: Agent<Mailbox>,
}

/// How a device is to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServeWish {
    /// Its address; without one, the only device that has no driver.
    pub device: Option<String>,
    /// Which offers are accepted.
    pub policy: AcceptPolicy,
    /// How long a give-back may take before what stays is said, at most.
    pub deadline: Duration,
}

/// The device that a wish means.
///
/// # Errors
/// [`DcdError`].
pub fn find(kernel: &impl Kernel, wish: &ServeWish) -> Result<PciDevice, DcdError> {
    pci::find(kernel.root(), wish.device.as_deref())
}

/// Begins to serve a device; a pool may have what it offers.
///
/// # Errors
/// [`DcdError`].
pub fn serve(
    kernel: &mut impl Kernel,
    device: PciDevice,
    wish: &ServeWish,
    pool: Option<Box<dyn Pool>>,
    say: Say<'_>,
) -> Result<Served, DcdError> {
    let place = window::find(kernel.root(), &device)?;
    let memory = Memory::new(kernel.root(), place.region.clone())?;
    device.enable(kernel.root())?;
    let mut mailbox = mailbox(kernel, &device)?;
    let mut decoders = decoders(kernel, &device)?;
    let block_bytes = memory.block_bytes();
    let config = config(partitions(&mut mailbox, &device)?, block_bytes)?;
    memory.clear(kernel)?;
    // The default device is out of the way only now.
    let mut place = window::find(kernel.root(), &device)?;
    let partitions = &config.partitions;
    let spans = commit(&mut decoders, partitions, &mut place, (&device, block_bytes), say)?;
    let (name, policy, deadline) = (device.address.clone(), wish.policy, wish.deadline);
    let setup = Setup { name, config, spans, memory, policy, deadline, pool };
    let agent = Agent::start(mailbox, setup, kernel, say)?;
    Ok(Served { device, agent })
}

fn mailbox(kernel: &impl Kernel, device: &PciDevice) -> Result<Mailbox, DcdError> {
    let (registers, begins) = device.map(kernel.root(), Block::Device)?;
    let at = registers::find(&registers, begins, Capability::Mailbox)?;
    let status = registers::find(&registers, begins, Capability::Status)?;
    Ok(Mailbox::new(registers, at, status)?)
}

fn decoders(kernel: &impl Kernel, device: &PciDevice) -> Result<Decoders, DcdError> {
    let (registers, begins) = device.map(kernel.root(), Block::Component)?;
    let at = registers::find(&registers, begins, Capability::HdmDecoders)?;
    Decoders::read(registers, at)
}

/// The regions of the device.
fn partitions(mailbox: &mut Mailbox, device: &PciDevice) -> Result<Vec<Partition>, DcdError> {
    let request = GetConfiguration { count: REGIONS_MAX, start: 0 };
    let regions = match mailbox.ask(&request) {
        Ok(configuration) => configuration.regions,
        // A device without dynamic capacity has no such command.
        Err(CommandError::Refused { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if regions.is_empty() {
        return Err(DcdError::NoRegions { device: device.address.clone() });
    }
    let partition = |region: &memtide_cxl::command::dynamic_capacity::Region| Partition {
        range: DpaRange::new(region.base, region.decode_length),
        length: region.length,
        block_bytes: region.block_size,
    };
    Ok(regions.iter().map(partition).collect())
}

/// The rules for a device with these regions, if they make sense.
fn config(partitions: Vec<Partition>, block_bytes: u64) -> Result<DeviceConfig, DcdError> {
    let mut config = DeviceConfig::new(partitions);
    config.align = config.align.max(block_bytes);
    config.splitting = Splitting::Block;
    config.check().map_err(|source| InputError::Device { device: DEVICE, source })?;
    Ok(config)
}

/// What of a region a decoder is over: what there can be of it, in whole units of decoders.
fn decoded(partition: &Partition) -> DpaRange {
    let bytes = partition.length.checked_next_multiple_of(decoder::UNIT);
    let most = partition.range.length;
    DpaRange::new(partition.range.start, bytes.map_or(most, |bytes| bytes.min(most)))
}

/// A decoder over each region: those that are there, and those that are not yet.
fn commit(
    decoders: &mut Decoders,
    partitions: &[Partition],
    place: &mut Place,
    (device, block_bytes): (&PciDevice, u64),
    say: Say<'_>,
) -> Result<Vec<Span>, DcdError> {
    let mut spans = Vec::new();
    for (number, partition) in partitions.iter().enumerate() {
        let start = partition.range.start;
        let there = decoders.committed().iter().find(|span| span.dpa.start == start).copied();
        let span = match there {
            Some(span) => span,
            None => {
                let dpa = decoded(partition);
                decoders.check(dpa)?;
                let name = format!("{} region {number}", device.address);
                let base = place.allocate(&name, dpa.length)?.start();
                check(Span { dpa, base }, place, block_bytes)?;
                decoders.commit(dpa, base)?
            }
        };
        check(span, place, block_bytes)?;
        say(Report::Decoding { span, adopted: there.is_some() });
        spans.push(span);
    }
    decoders.enable()?;
    Ok(spans)
}

/// Whether the kernel can use what a decoder decodes.
fn check(span: Span, place: &Place, block_bytes: u64) -> Result<(), DcdError> {
    let (range, region) = (span.physical(), place.region.range);
    if !region.contains(range) {
        return Err(DcdError::OutsideRegion { dpa: span.dpa, range, region });
    }
    if span.base.0 % block_bytes != span.dpa.start % block_bytes {
        let block_bytes = ByteSize(block_bytes);
        return Err(DcdError::Blocks { dpa: span.dpa, base: span.base, block_bytes });
    }
    Ok(())
}

impl Served {
    /// Looks for what there is to do, and does it.
    ///
    /// # Errors
    /// [`DcdError`]; the device cannot be served any more. [`DcdError::Unplugged`] says what that
    /// means for the memory that was online.
    pub fn step(&mut self, kernel: &mut impl Kernel, say: Say<'_>) -> Result<(), DcdError> {
        if !self.device.is_there(kernel.root()) {
            return Err(self.unplugged(kernel));
        }
        match self.agent.step(kernel, say) {
            Err(DcdError::Command(CommandError::Gone)) => Err(self.unplugged(kernel)),
            done => done,
        }
    }

    /// What is served.
    #[must_use]
    pub const fn agent(&self) -> &Agent<Mailbox> {
        &self.agent
    }

    /// What was offered and has been answered since this was asked last.
    pub fn take_answered(&mut self) -> Vec<DpaRange> {
        self.agent.take_answered()
    }

    /// Which offers are accepted from now on.
    pub const fn set_policy(&mut self, policy: AcceptPolicy) {
        self.agent.set_policy(policy);
    }

    fn unplugged(&self, kernel: &impl Kernel) -> DcdError {
        let setup = self.agent.setup();
        let online = setup.spans.iter().map(|span| span.physical());
        let (mut bytes, mut blocks) = (0_u64, Vec::new());
        for range in online {
            let (online, list) = setup.memory.online_in(kernel.root(), range);
            bytes = bytes.saturating_add(online.0);
            blocks.extend((!list.is_empty()).then_some(list));
        }
        let blocks = if blocks.is_empty() { "none".to_owned() } else { blocks.join(",") };
        let device = self.device.address.clone();
        DcdError::Unplugged { device, online: ByteSize(bytes), blocks }
    }
}

#[cfg(test)]
mod tests {
    use memtide_engine::dynamic_capacity::DeviceError;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn partition(start: u64, decoded: u64, length: u64) -> Partition {
        Partition { range: DpaRange::new(start, decoded), length, block_bytes: 2 * MIB }
    }

    #[test]
    fn a_decoder_is_over_whole_units_and_no_more_than_the_region() {
        let of = |decode: u64, length| decoded(&partition(1 << 30, decode, length)).length;
        assert_eq!(of(1024 * MIB, 300 * MIB), 512 * MIB);
        assert_eq!(of(1024 * MIB, 512 * MIB), 512 * MIB);
        assert_eq!(of(300 * MIB, 290 * MIB), 300 * MIB);
        // What no unit is above.
        assert_eq!(of(u64::MAX, u64::MAX - MIB), u64::MAX);
    }

    #[test]
    fn regions_that_make_no_sense_are_refused() {
        const GIB: u64 = 1 << 30;
        assert_eq!(config(vec![partition(GIB, GIB, GIB)], 128 * MIB).unwrap().align, 128 * MIB);
        let why = |regions: Vec<Partition>| match config(regions, 128 * MIB) {
            Err(DcdError::Rules(InputError::Device { source, .. })) => source,
            other => panic!("{other:?}"),
        };
        let overlapping = vec![partition(0, GIB, GIB), partition(GIB / 2, GIB, GIB)];
        assert!(matches!(why(overlapping), DeviceError::Order { number: 1, .. }));
        let beyond = partition(GIB, u64::MAX, GIB);
        assert!(matches!(why(vec![beyond]), DeviceError::Start { number: 0, .. }));
        let too_long = partition(GIB, GIB, 2 * GIB);
        assert!(matches!(why(vec![too_long]), DeviceError::Length { number: 0, .. }));
        assert!(matches!(why(Vec::new()), DeviceError::Partitions { partitions: 0 }));
    }
}

//! CEDT, the CXL Early Discovery Table (CXL 3.1, 9.18.1): host bridges and windows.
//!
//! A window (CFMWS) is a range of addresses that the platform sends to CXL host bridges, and how
//! it deals them out. What a device is programmed with later lies inside one. Where the dealing
//! is by XOR, the bits that it takes are in another record (CXIMS), found by its granularity.
//!
//! [`Cfmws`] has what the table says. [`Cedt::decoders`] turns it into arithmetic, and refuses
//! what Linux refuses (`cxl_acpi_cfmws_verify`, `cxl_parse_cxims`), with the field at fault.

use memtide_units::{PhysAddr, PhysRange};

use super::{
    cursor::{Frames, Framing, List, Unknown, View},
    error::TableError,
    header::{HEADER_BYTES, Table},
};
use crate::interleave::{Granularity, Interleave, InterleaveError, RootDecoder, Ways};

/// How many granularities there are: [`Granularity::all`].
const GRANULARITIES: usize = 7;

/// Linux wants windows that start at a multiple of this, and are one.
pub const WINDOW_ALIGN: u64 = 256 << 20;

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cedt<'a>(Table<'a>);

impl<'a> Cedt<'a> {
    /// The table at the start of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] if it is another table, or its length is not true.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        Table::parse(bytes, "CEDT", *b"CEDT", HEADER_BYTES).map(Self)
    }

    /// Its header, with revision and checksum.
    #[must_use]
    pub const fn table(self) -> Table<'a> {
        self.0
    }

    /// Its records, in their order.
    pub fn records(self) -> impl Iterator<Item = Result<Record<'a>, TableError>> + Clone {
        let frames = Frames::new(self.0.view(), HEADER_BYTES, Framing::Words);
        frames.map(|frame| frame.and_then(|(kind, view)| Record::read(kind, view)))
    }

    /// Its windows, in their order; what cannot be read of other records does not matter.
    pub fn windows(self) -> impl Iterator<Item = Cfmws<'a>> + Clone {
        self.records().filter_map(|record| match record {
            Ok(Record::Window(window)) => Some(window),
            _ => None,
        })
    }

    /// Its windows, in their order, and how each deals out its addresses.
    ///
    /// An error names the field of the window that cannot be (its arithmetic, base, size, ways,
    /// granularity or the number of its targets), or says that the XOR maps of its
    /// granularity are missing, too few, or no bijection. It concerns this window alone.
    pub fn decoders(
        self,
    ) -> impl Iterator<Item = (Cfmws<'a>, Result<RootDecoder, TableError>)> + Clone {
        let maps = self.maps();
        self.windows().map(move |window| (window, window.decoder(&maps)))
    }

    /// The XOR maps for each encoded granularity. Where there are several the last count, as in
    /// Linux. Looked up once, so that many windows and many maps do not multiply.
    fn maps(self) -> [Option<Cxims<'a>>; GRANULARITIES] {
        let mut maps = [None; GRANULARITIES];
        for record in self.records() {
            let Ok(Record::XorMaps(cxims)) = record else { continue };
            if let Some(place) = maps.get_mut(usize::from(cxims.granularity)) {
                *place = Some(cxims);
            }
        }
        maps
    }
}

/// A record of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// CHBS: where a host bridge's registers are.
    HostBridge(Chbs<'a>),
    /// CFMWS: a window.
    Window(Cfmws<'a>),
    /// CXIMS: the bits that XOR dealing takes.
    XorMaps(Cxims<'a>),
    /// RDPAS: who reports the errors of a port.
    PortAssociation(Rdpas),
    /// Something newer.
    Unknown(Unknown),
}

impl<'a> Record<'a> {
    fn read(kind: u16, view: View<'a>) -> Result<Self, TableError> {
        Ok(match kind {
            0 => Self::HostBridge(Chbs::read(view.named("CHBS"))?),
            1 => Self::Window(Cfmws::read(view.named("CFMWS"))?),
            2 => Self::XorMaps(Cxims::read(view.named("CXIMS"))?),
            3 => Self::PortAssociation(Rdpas::read(view.named("RDPAS"))?),
            _ => Self::Unknown(Unknown { kind, offset: view.offset(), length: view.len() }),
        })
    }
}

/// CXL Host Bridge Structure: where a host bridge's registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chbs<'a> {
    view: View<'a>,
    /// The bridge's `_UID`; windows name their targets by it.
    pub uid: u32,
    /// 0: CXL 1.1, its registers are a root complex register block. 1: CXL 2.0 and later, they
    /// are component registers.
    pub version: u32,
    /// Where the registers start.
    pub base: PhysAddr,
    /// How many bytes they take: 8 KiB or 64 KiB, by the version.
    pub bytes: u64,
}

impl<'a> Chbs<'a> {
    fn read(view: View<'a>) -> Result<Self, TableError> {
        view.at_least(32)?;
        Ok(Self {
            view,
            uid: view.u32(4)?,
            version: view.u32(8)?,
            base: PhysAddr(view.u64(16)?),
            bytes: view.u64(24)?,
        })
    }

    /// Whether Linux uses it (`cxl_get_chbs_iter`): its size is that of its version, and its
    /// base is not zero.
    ///
    /// # Errors
    /// [`TableError::Value`] with the field that is wrong.
    pub fn check(&self) -> Result<(), TableError> {
        match (self.version, self.bytes) {
            (0, bytes) if bytes != 0x2000 => {
                return Err(self.view.wrong("length", bytes, "0x2000, for CXL 1.1"));
            }
            (1, bytes) if bytes != 0x1_0000 => {
                return Err(self.view.wrong("length", bytes, "0x10000, for CXL 2.0"));
            }
            _ => {}
        }
        if self.base.0 == 0 {
            return Err(self.view.wrong("base", 0, "an address"));
        }
        Ok(())
    }
}

bitflags::bitflags! {
    /// What a window may be used for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Restrictions: u16 {
        /// Memory that a device keeps coherent itself (HDM-D).
        const DEVICE_COHERENT = 1 << 0;
        /// Memory that the host keeps coherent (HDM-H).
        const HOST_COHERENT = 1 << 1;
        /// Volatile memory.
        const VOLATILE = 1 << 2;
        /// Persistent memory.
        const PERSISTENT = 1 << 3;
        /// What is programmed in it stays as firmware left it.
        const FIXED = 1 << 4;
        /// Memory kept coherent by back-invalidation (HDM-DB).
        const BACK_INVALIDATE = 1 << 5;
        const _ = !0;
    }
}

/// CXL Fixed Memory Window Structure, as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cfmws<'a> {
    view: View<'a>,
    /// Its first address.
    pub base: PhysAddr,
    /// Its size in bytes.
    pub size: u64,
    /// Ways, encoded: [`Ways::decode`].
    pub ways: u8,
    /// 0 modulo, 1 XOR.
    pub arithmetic: u8,
    /// Granularity, encoded: [`Granularity::decode`].
    pub granularity: u32,
    /// What may be put there.
    pub restrictions: Restrictions,
    /// Its class of service (QoS throttling group).
    pub qtg: u16,
    /// The host bridges by `_UID`, in the order in which they are dealt to; and what else the
    /// record has room for.
    pub targets: List<'a, u32>,
}

impl<'a> Cfmws<'a> {
    fn read(view: View<'a>) -> Result<Self, TableError> {
        view.at_least(36)?;
        Ok(Self {
            view,
            base: PhysAddr(view.u64(8)?),
            size: view.u64(16)?,
            ways: view.u8(24)?,
            arithmetic: view.u8(25)?,
            granularity: view.u32(28)?,
            restrictions: Restrictions::from_bits_retain(view.u16(32)?),
            qtg: view.u16(34)?,
            targets: view.rest(36)?,
        })
    }

    /// Where in the table the record starts, in bytes.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.view.offset()
    }

    /// Its addresses, whatever else is wrong with it; `None` if there are none, or they reach
    /// beyond 64 bits.
    #[must_use]
    pub const fn range(&self) -> Option<PhysRange> {
        PhysRange::from_size(self.base, self.size)
    }

    /// How it deals out its addresses, with the XOR maps for each encoded granularity.
    fn decoder(
        &self,
        maps: &[Option<Cxims<'_>>; GRANULARITIES],
    ) -> Result<RootDecoder, TableError> {
        let (range, interleave) = self.verify()?;
        if self.arithmetic == 0 || interleave.ways().xor_maps() == 0 {
            return Ok(RootDecoder::modulo(range, interleave));
        }
        let eig = interleave.granularity().encoded();
        let Some(cxims) = maps[usize::from(eig)] else {
            let expected = "a granularity that a CXIMS record is there for";
            return Err(self.view.wrong("granularity", eig.into(), expected));
        };
        let decoder = RootDecoder::xor(range, interleave, cxims.maps.iter());
        decoder.map_err(|error| cxims.refused(error))
    }

    /// Its ways, granularity and range, if all of it is as Linux wants it. One-way windows have
    /// the smallest granularity whatever the table says, so that anything fits into them
    /// (`__cxl_parse_cfmws`).
    fn verify(&self) -> Result<(PhysRange, Interleave), TableError> {
        let wrong = |field, value, expected| self.view.wrong(field, value, expected);
        if self.arithmetic > 1 {
            return Err(wrong("arithmetic", self.arithmetic.into(), "0 (modulo) or 1 (XOR)"));
        }
        if !self.base.is_aligned(WINDOW_ALIGN) {
            return Err(wrong("base", self.base.0, "a multiple of 256 MiB"));
        }
        if !self.size.is_multiple_of(WINDOW_ALIGN) {
            return Err(wrong("size", self.size, "a multiple of 256 MiB"));
        }
        let range = self.range();
        let range = range.ok_or(wrong("size", self.size, "some bytes, below 2^64 at the end"))?;
        let ways = Ways::decode(self.ways)
            .map_err(|_| wrong("ways", self.ways.into(), "0 to 4 or 8 to 10"))?;
        self.view.at_least(36 + 4 * u64::from(ways.count()))?;
        let encoded = u8::try_from(self.granularity).ok().map(Granularity::decode);
        let Some(Ok(granularity)) = encoded else {
            return Err(wrong("granularity", self.granularity.into(), "0 to 6"));
        };
        let granularity = if ways.count() == 1 { Granularity::SMALLEST } else { granularity };
        Ok((range, Interleave::new(ways, granularity)))
    }
}

/// CXL XOR Interleave Math Structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cxims<'a> {
    view: View<'a>,
    /// The granularity of the windows that it is for, encoded: [`Granularity::decode`].
    pub granularity: u8,
    /// For each bit of a target's number, the bits of the address that it is the parity of.
    pub maps: List<'a, u64>,
}

impl<'a> Cxims<'a> {
    fn read(view: View<'a>) -> Result<Self, TableError> {
        let count = view.u8(7)?;
        Ok(Self { view, granularity: view.u8(6)?, maps: view.list(8, count.into())? })
    }

    fn refused(&self, error: InterleaveError) -> TableError {
        match error {
            InterleaveError::MapsMissing { present, .. } => {
                self.view.wrong("map count", present.into(), "one for each bit of the ways")
            }
            InterleaveError::Map { map, .. } => {
                let expected = "a map whose lowest bit is its own bit of the target's number";
                self.view.wrong("map", map, expected)
            }
            _ => self.view.wrong("map", 0, "maps that fit the window"),
        }
    }
}

/// RCEC Downstream Port Association Structure: which event collector reports a port's errors.
///
/// Fields lie as ACPICA has them (`struct acpi_cedt_rdpas`, 17 bytes); they are not aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rdpas {
    /// The event collector's PCI segment.
    pub segment: u16,
    /// The event collector's bus (15:8), device (7:3) and function (2:0).
    pub bdf: u16,
    /// 0 CXL.io, 1 CXL.mem and CXL.cache.
    pub protocol: u8,
    /// Where the port's registers are: its root complex register block, or its component
    /// registers, by the protocol.
    pub base: PhysAddr,
}

impl Rdpas {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.at_least(17)?;
        Ok(Self {
            segment: view.u16(4)?,
            bdf: view.u16(6)?,
            protocol: view.u8(8)?,
            base: PhysAddr(view.u64(9)?),
        })
    }
}

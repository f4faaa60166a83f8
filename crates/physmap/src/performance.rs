//! How far memory is and how much gets through: a path's numbers from those of its parts.
//!
//! No table says it of a whole path. HMAT says it from the processors to a host bridge (whose
//! domain is a generic port in SRAT), a link's speed and width say it of the link, a switch's CDAT
//! of the way through it, a device's CDAT of the way from its port to its memory. One after the
//! other latencies add up and the smallest bandwidth counts ([`Coordinate::through`]); dealt out
//! over devices beside each other, bandwidths add up and the largest latency counts
//! ([`Coordinate::beside`]), until something that they share limits them again. That is what
//! Linux does in drivers/cxl/core/cdat.c (`cxl_coordinates_combine`, `cxl_bandwidth_add`,
//! `cxl_region_perf_data_calculate`).
//!
//! All latencies are nanoseconds here, those of links too: Linux (6.12) adds a link's picoseconds
//! to the others' nanoseconds, and so shows thousands too many for each.
//!
//! What nobody says counts for nothing: an unknown latency adds none, an unknown bandwidth limits
//! none and adds none. So a path with unknown parts may be longer and narrower than its numbers,
//! never shorter or wider; memory with unknown parts beside each other may be wider.

use crate::{
    acpi::hmat::{DataType, Hierarchy, Hmat, Record},
    cdat::{self, Cdat},
};

/// Latency and bandwidth of a path; `None` is what nobody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Coordinate {
    /// Nanoseconds that a read takes.
    pub read_latency_ns: Option<u32>,
    /// Nanoseconds that a write takes.
    pub write_latency_ns: Option<u32>,
    /// Megabytes (10^6) that can be read in a second.
    pub read_mb_per_s: Option<u32>,
    /// Megabytes (10^6) that can be written in a second.
    pub write_mb_per_s: Option<u32>,
}

impl Coordinate {
    /// Nobody said anything.
    pub const UNKNOWN: Self = Self {
        read_latency_ns: None,
        write_latency_ns: None,
        read_mb_per_s: None,
        write_mb_per_s: None,
    };

    /// From domain `initiator` to domain `target` of SRAT, by the matrices that are about memory
    /// itself. Of two that say the same the later counts.
    #[must_use]
    pub fn from_hmat(hmat: Hmat<'_>, initiator: u32, target: u32) -> Self {
        let mut all = Self::UNKNOWN;
        for record in hmat.records() {
            let Ok(Record::Locality(locality)) = record else { continue };
            if locality.hierarchy == Hierarchy::Memory {
                all.say(locality.data_type, locality.between(initiator, target));
            }
        }
        all
    }

    /// From a device's port to its memory with this handle (DSMAS), by its own table.
    #[must_use]
    pub fn of_device(cdat: Cdat<'_>, handle: u8) -> Self {
        let mut all = Self::UNKNOWN;
        for record in cdat.records() {
            let Ok(cdat::Record::Locality(locality)) = record else { continue };
            if locality.hierarchy == Hierarchy::Memory && locality.handle == handle {
                all.say(locality.data_type, locality.value());
            }
        }
        all
    }

    /// From a switch's upstream port to its downstream port of this number, by its own table.
    #[must_use]
    pub fn of_switch(cdat: Cdat<'_>, downstream: u16) -> Self {
        let mut all = Self::UNKNOWN;
        for record in cdat.records() {
            let Ok(cdat::Record::Switch(switch)) = record else { continue };
            for entry in switch.entries() {
                if entry.downstream().is_none_or(|port| port == downstream) {
                    all.say(switch.data_type, entry.value);
                }
            }
        }
        all
    }

    /// This way, and then that one.
    #[must_use]
    pub fn through(self, next: Self) -> Self {
        let longer = |a, b| either(a, b, u32::saturating_add);
        let narrower = |a, b| either(a, b, u32::min);
        Self {
            read_latency_ns: longer(self.read_latency_ns, next.read_latency_ns),
            write_latency_ns: longer(self.write_latency_ns, next.write_latency_ns),
            read_mb_per_s: narrower(self.read_mb_per_s, next.read_mb_per_s),
            write_mb_per_s: narrower(self.write_mb_per_s, next.write_mb_per_s),
        }
    }

    /// Memory that is dealt out over this way and that one.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        let slower = |a, b| either(a, b, u32::max);
        let wider = |a, b| either(a, b, u32::saturating_add);
        Self {
            read_latency_ns: slower(self.read_latency_ns, other.read_latency_ns),
            write_latency_ns: slower(self.write_latency_ns, other.write_latency_ns),
            read_mb_per_s: wider(self.read_mb_per_s, other.read_mb_per_s),
            write_mb_per_s: wider(self.write_mb_per_s, other.write_mb_per_s),
        }
    }

    fn say(&mut self, data: Result<DataType, u8>, value: Option<u32>) {
        let (Ok(data), Some(_)) = (data, value) else { return };
        match data {
            DataType::AccessLatency => {
                (self.read_latency_ns, self.write_latency_ns) = (value, value);
            }
            DataType::ReadLatency => self.read_latency_ns = value,
            DataType::WriteLatency => self.write_latency_ns = value,
            DataType::AccessBandwidth => {
                (self.read_mb_per_s, self.write_mb_per_s) = (value, value);
            }
            DataType::ReadBandwidth => self.read_mb_per_s = value,
            DataType::WriteBandwidth => self.write_mb_per_s = value,
        }
    }
}

/// `both` of them, or the one that is known.
fn either(a: Option<u32>, b: Option<u32>, both: impl Fn(u32, u32) -> u32) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (known, None) | (None, known) => known,
    }
}

/// How much is sent at once over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flit {
    /// 68 bytes: links up to 32 GT/s.
    Bytes68,
    /// 256 bytes: PCIe's flit mode, from 64 GT/s on always.
    Bytes256,
}

/// A PCIe link as it was trained: it changes when it is retrained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// Megatransfers a second on each lane: 32000 for 32 GT/s.
    pub mega_transfers_per_s: u32,
    /// Lanes.
    pub lanes: u8,
    /// How much is sent at once.
    pub flit: Flit,
}

impl Link {
    /// Its latency and bandwidth: the time that a flit takes on a lane, rounded up
    /// (`cxl_pci_get_latency`; what wires and retimers add is left out there too), and a bit for
    /// each transfer on each lane (`cxl_pci_get_bandwidth`). Nothing of a link that is down.
    #[must_use]
    pub fn coordinate(self) -> Coordinate {
        let lane_mb_per_s = self.mega_transfers_per_s / 8;
        if lane_mb_per_s == 0 || self.lanes == 0 {
            return Coordinate::UNKNOWN;
        }
        let flit_bytes = match self.flit {
            Flit::Bytes68 => 68_u32,
            Flit::Bytes256 => 256,
        };
        let latency = Some((flit_bytes * 1000).div_ceil(lane_mb_per_s));
        let bandwidth = Some(lane_mb_per_s.saturating_mul(self.lanes.into()));
        Coordinate {
            read_latency_ns: latency,
            write_latency_ns: latency,
            read_mb_per_s: bandwidth,
            write_mb_per_s: bandwidth,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coordinate(latency: [u32; 2], bandwidth: [u32; 2]) -> Coordinate {
        Coordinate {
            read_latency_ns: Some(latency[0]),
            write_latency_ns: Some(latency[1]),
            read_mb_per_s: Some(bandwidth[0]),
            write_mb_per_s: Some(bandwidth[1]),
        }
    }

    #[test]
    fn latencies_add_up_and_the_smallest_bandwidth_counts() {
        let bridge = coordinate([80, 90], [40_000, 30_000]);
        let device = coordinate([150, 250], [16_000, 64_000]);
        assert_eq!(bridge.through(device), coordinate([230, 340], [16_000, 30_000]));
    }

    #[test]
    fn two_devices_share_the_switch_above_them() {
        let device = coordinate([150, 250], [16_000, 16_000]);
        let slower = coordinate([200, 200], [10_000, 10_000]);
        let both = device.beside(slower);
        assert_eq!(both, coordinate([200, 250], [26_000, 26_000]));
        let upstream = coordinate([50, 50], [20_000, 32_000]);
        assert_eq!(upstream.through(both), coordinate([250, 300], [20_000, 26_000]));
    }

    #[test]
    fn what_nobody_says_counts_for_nothing() {
        let known = coordinate([1, 2], [3, 4]);
        assert_eq!(known.through(Coordinate::UNKNOWN), known);
        assert_eq!(Coordinate::UNKNOWN.beside(known), known);
        let reads = Coordinate { write_latency_ns: None, write_mb_per_s: None, ..known };
        let both = known.through(reads);
        assert_eq!((both.read_latency_ns, both.write_latency_ns), (Some(2), Some(2)));
        assert_eq!(
            known.through(coordinate([u32::MAX; 2], [9; 2])).read_latency_ns,
            Some(u32::MAX)
        );
    }

    #[test]
    fn links_by_generation_and_width() {
        let link = |mega_transfers_per_s, lanes, flit| {
            let link = Link { mega_transfers_per_s, lanes, flit }.coordinate();
            (link.read_latency_ns, link.write_mb_per_s)
        };
        assert_eq!(link(32_000, 16, Flit::Bytes68), (Some(17), Some(64_000)));
        assert_eq!(link(16_000, 8, Flit::Bytes68), (Some(34), Some(16_000)));
        assert_eq!(link(64_000, 16, Flit::Bytes256), (Some(32), Some(128_000)));
        assert_eq!(link(0, 16, Flit::Bytes68), (None, None));
        assert_eq!(link(2_500, 0, Flit::Bytes68), (None, None));
        assert_eq!(link(u32::MAX, 255, Flit::Bytes68), (Some(1), Some(u32::MAX)));
    }

    fn any_coordinate() -> impl Strategy<Value = Coordinate> {
        any::<[Option<u32>; 4]>().prop_map(|[a, b, c, d]| Coordinate {
            read_latency_ns: a,
            write_latency_ns: b,
            read_mb_per_s: c,
            write_mb_per_s: d,
        })
    }

    proptest! {
        /// So it does not matter in what order a path or a region is put together.
        #[test]
        fn order_does_not_matter(
            a in any_coordinate(),
            b in any_coordinate(),
            c in any_coordinate(),
        ) {
            prop_assert_eq!(a.through(b), b.through(a));
            prop_assert_eq!(a.beside(b), b.beside(a));
            prop_assert_eq!(a.through(b).through(c), a.through(b.through(c)));
            prop_assert_eq!(a.beside(b).beside(c), a.beside(b.beside(c)));
        }

        #[test]
        fn a_longer_path_is_no_faster_and_no_wider(
            path in any_coordinate(),
            next in any_coordinate(),
        ) {
            let whole = path.through(next);
            for part in [path, next] {
                prop_assert!(whole.read_latency_ns >= part.read_latency_ns);
                prop_assert!(whole.write_latency_ns >= part.write_latency_ns);
                if let Some(width) = part.read_mb_per_s {
                    prop_assert!(whole.read_mb_per_s.is_some_and(|whole| whole <= width));
                }
                if let Some(width) = part.write_mb_per_s {
                    prop_assert!(whole.write_mb_per_s.is_some_and(|whole| whole <= width));
                }
            }
        }
    }
}

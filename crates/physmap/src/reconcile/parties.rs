//! A conflict for programs: its kind, who disagrees, and about which ranges.

use alloc::{collections::BTreeSet, vec, vec::Vec};

use super::{Conflict, Party, Source};

impl Source {
    /// Its stable name, for JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MemoryMap => "memory-map",
            Self::Cedt => "cedt",
            Self::Srat => "srat",
            Self::Decoders => "decoders",
        }
    }
}

impl Conflict {
    /// Its stable name, for JSON.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadWindow { .. } => "bad-window",
            Self::WindowOutside { .. } => "window-outside",
            Self::WindowsOverlap { .. } => "windows-overlap",
            Self::WindowInWindow { .. } => "window-in-window",
            Self::HandedOver { .. } => "handed-over",
            Self::Merged { .. } => "merged",
            Self::Widened { .. } => "widened",
            Self::Trimmed { .. } => "trimmed",
            Self::Swallowed { .. } => "swallowed",
            Self::InsideMemory { .. } => "inside-memory",
            Self::OddSize { .. } => "odd-size",
            Self::LowMemoryHole { .. } => "low-memory-hole",
            Self::DecoderBeyond { .. } => "decoder-beyond",
            Self::DecoderOutside { .. } => "decoder-outside",
            Self::MemoryOverlap { .. } => "memory-overlap",
            Self::NoAffinity { .. } => "no-affinity",
            Self::MemoryWithoutAffinity { .. } => "memory-without-affinity",
            Self::TwoDomains { .. } => "two-domains",
            Self::SoftReservedSplit { .. } => "soft-reserved-split",
        }
    }

    /// What is said by whom, in the order in which the sentence names them. A source that
    /// says nothing of the range is not among them, but in [`Conflict::sources`].
    #[must_use]
    pub fn parties(&self) -> Vec<&Party> {
        match self {
            Self::BadWindow { .. } => Vec::new(),
            Self::WindowOutside { window, .. }
            | Self::OddSize { window, .. }
            | Self::NoAffinity { window, .. } => vec![window],
            Self::WindowsOverlap { window, other } => vec![window, other],
            Self::WindowInWindow { window, within } => vec![window, within],
            Self::HandedOver { window, memory, .. } => vec![memory, window],
            Self::Merged { memory, windows, .. } => [memory].into_iter().chain(windows).collect(),
            Self::Widened { window, by, .. }
            | Self::Trimmed { window, by, .. }
            | Self::Swallowed { window, by } => vec![window, by],
            Self::InsideMemory { window, memory, .. } => vec![window, memory],
            Self::LowMemoryHole { window, decoder } => vec![window, decoder],
            Self::DecoderBeyond { decoder, window } => vec![decoder, window],
            Self::DecoderOutside { decoder } => vec![decoder],
            Self::MemoryOverlap { winner, loser } => vec![loser, winner],
            Self::MemoryWithoutAffinity { memory, .. } | Self::SoftReservedSplit { memory, .. } => {
                vec![memory]
            }
            Self::TwoDomains { one, other } => vec![one, other],
        }
    }

    /// Who disagrees: one source where it contradicts itself.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<Source> {
        let mut sources: BTreeSet<Source> =
            self.parties().into_iter().map(|party| party.source).collect();
        sources.extend(match self {
            Self::BadWindow { .. } | Self::DecoderOutside { .. } => Some(Source::Cedt),
            Self::NoAffinity { .. } | Self::MemoryWithoutAffinity { .. } => Some(Source::Srat),
            Self::SoftReservedSplit { .. } => Some(Source::Decoders),
            _ => None,
        });
        sources
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use memtide_units::{PhysAddr, PhysRange};

    use super::*;

    fn party(source: Source, name: &str) -> Party {
        Party::new(source, name, PhysRange::new(PhysAddr(0), PhysAddr(0xfff)).unwrap())
    }

    #[test]
    fn parties_come_in_the_order_of_the_sentence() {
        let memory = || party(Source::MemoryMap, "Soft Reserved");
        let window = || party(Source::Cedt, "window 0");
        let decoder = || party(Source::Decoders, "decoder2.0");
        for conflict in [
            Conflict::WindowInWindow { window: window(), within: party(Source::Cedt, "outer") },
            Conflict::Merged { memory: memory(), windows: vec![window()], count: 1 },
            Conflict::Swallowed { window: window(), by: party(Source::Cedt, "grown") },
            Conflict::LowMemoryHole { window: window(), decoder: decoder() },
            Conflict::DecoderBeyond { decoder: decoder(), window: window() },
            Conflict::MemoryOverlap { winner: memory(), loser: party(Source::MemoryMap, "lost") },
            Conflict::TwoDomains {
                one: party(Source::Srat, "domain 0"),
                other: party(Source::Srat, "domain 1"),
            },
        ] {
            let text = conflict.to_string();
            let parties = conflict.parties();
            let at: Vec<usize> =
                parties.iter().map(|party| text.find(&party.name).expect("named")).collect();
            assert!(at.len() == 2 && at[0] < at[1], "{text}: {at:?}");
        }
    }

    #[test]
    fn who_says_nothing_is_a_source_too() {
        let window = party(Source::Cedt, "window 0");
        let conflict = Conflict::NoAffinity { window, missing: Vec::new(), extends: None };
        assert_eq!(conflict.parties().len(), 1);
        assert_eq!(conflict.sources(), BTreeSet::from([Source::Cedt, Source::Srat]));
        let decoder = party(Source::Decoders, "decoder2.0");
        let conflict = Conflict::DecoderOutside { decoder };
        assert_eq!(conflict.sources(), BTreeSet::from([Source::Cedt, Source::Decoders]));
    }
}

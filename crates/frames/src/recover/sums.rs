//! What is worked out from the pageblocks: guides and notes of the indexes, counters, records.

use super::Recovery;
use crate::{
    bits::run_starts, dedication, entry::GRADES, frames::header, layout::RUN_ORDERS,
    primitive::settle, record, request::Movability, watermark::Watermarks, zone::Zone,
};

impl Recovery<'_, '_> {
    pub(super) fn settle_runs(&self) {
        let frames = self.frames;
        let words = frames.layout.pageblocks.div_ceil(64);
        for zone in 0..Zone::COUNT as u64 {
            let free = frames.free(zone);
            free.repair();
            for run in 1..=RUN_ORDERS {
                let runs = frames.runs(zone, run);
                for noted in 0..words.div_ceil(64) {
                    let within = noted * 64..words.min((noted + 1) * 64);
                    let has = |&word: &u64| run_starts(free.leaf(word), run as u8) != 0;
                    let members = within.filter(has).fold(0, |set, word| set | 1 << (word % 64));
                    runs.restore(noted, members);
                }
                runs.repair();
            }
            for movability in Movability::ALL {
                (0..GRADES as u64).for_each(|g| frames.listed(zone, movability, g).repair());
            }
        }
    }

    pub(super) fn settle_zones(&self) {
        for zone in Zone::all() {
            let sums = &self.zones[zone.id() as usize];
            let word = |at| self.frames.zone_word(zone.id(), at);
            settle(word(header::PRESENT), sums.present);
            settle(word(header::FREE), sums.free);
            let dedication = sums.movability.map_or(0, |m| dedication::word(m, sums.dedicated));
            settle(word(header::DEDICATION), dedication);
            let Watermarks { min, low, high } = self.frames.watermarks(zone);
            let low = low.max(min);
            settle(word(header::WATERMARKS + 1), low);
            settle(word(header::WATERMARKS + 2), high.max(low));
        }
    }

    /// Nobody has a core, and nothing is cached.
    pub(super) fn settle_cores(&self) {
        let careful = if self.retiring == 0 { 0 } else { record::CAREFUL };
        for core in 0..self.frames.layout.geometry.cores {
            for (at, word) in self.frames.record(core).iter().enumerate() {
                settle(word, if at == record::SUMMONS { careful } else { 0 });
            }
        }
    }

    pub(super) fn settle_header(&self) {
        self.frames.isolated.iter().for_each(|word| settle(word, 0));
        let flags = |zone: Zone| {
            let present = u64::from(self.zones[zone.id() as usize].present != 0);
            let watched = u64::from(self.frames.watermarks(zone).high != 0);
            (present | watched << header::WATCHED) << zone.id()
        };
        let words = [
            (header::ISOLATED, 0),
            (header::RETIRING, self.retiring),
            (header::RETIRED, self.retired),
            (header::POPULATED, Zone::all().map(flags).fold(0, |all, flags| all | flags)),
            // After the pageblock in which it says something.
            (header::EXCLUDING, 0),
        ];
        for (at, value) in words {
            settle(&self.frames.header[at], value);
        }
    }
}

//! Whether all that is kept twice agrees.
//!
//! Much of a node is said in two places, for speed: a pageblock's entry and the index that it
//! stands in, a core's masks and the bitmap, the bitmaps and the counters of the header. The
//! operations keep them in step; [`Frames::validate`] works out each from the other, trusts
//! neither, and panics with what it found. Every test ends with it.
//!
//! # What it checks
//! * *Indexes*: their guides are exact; each member's entry names that very index, and each entry
//!   that names an index is a member of it. So a pageblock stands in one index at most.
//! * *Entries*: what a pageblock is fits what is taken of it. *Free*: nothing. *Listed*: some but
//!   not all (its grade may be out of date, as it is only sampled). *Full*: all. *Head* and
//!   *Tail*: the bitmaps are zero, and the block is whole. *Owned*: some core's slot has it.
//!   *Reserved*: its chain goes on with another. *Absent*: everything is zero.
//! * *Bitmaps*: what is not taken is nothing else; tails make aligned blocks of a power of two;
//!   what is held is the first frame of a block; a hole is retired.
//! * *Runs*: each word with an aligned run of free pageblocks is noted. (Notes may be left over.)
//! * *Caches*: what is cached is taken, a block of its own, held by nobody, and cached once.
//! * *Counters*: free, present, isolated, retired, dedicated; and that
//!   `free + cached + used + retired = present`.
//!
//! It is for a node at rest: another thread in the middle of a call looks like damage. Frames,
//! cores and reservations may exist.

use crate::{
    bits::run_starts,
    cache::CACHE_FRAMES,
    entry::{Entry, GRADES, State},
    frames::{Frames, header, pageblocks_in},
    index::Index,
    layout::{FRAMES, PAGEBLOCK_ORDER, RUN_ORDERS, WORDS},
    primitive::Ordering::*,
    record::{self, slot, slots},
    request::Movability,
    watermark::FOLD,
    zone::Zone,
};

mod bitmaps;
#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

/// What the bitmaps and entries add up to.
#[derive(Default)]
struct Books {
    /// Pageblocks that are isolated.
    isolated: u64,
    /// Retired frames that are not holes.
    retired: u64,
    /// Frames of blocks, cached and retired ones among them.
    taken: u64,
    zones: [ZoneBooks; Zone::COUNT],
}

#[derive(Default, Clone, Copy)]
struct ZoneBooks {
    pageblocks: u64,
    free: u64,
    holes: u64,
    dedicated: u64,
}

impl Frames<'_> {
    /// Checks all that is kept twice, while nobody is in the middle of a call.
    ///
    /// Takes time in proportion to the pageblocks of the node, and to the square of the cores
    /// that cache something.
    ///
    /// # Panics
    /// With what does not agree.
    pub fn validate(&self) {
        self.validate_indexes();
        let cached = (0..self.layout.geometry.cores).map(|core| self.validate_core(core)).sum();
        let mut books = Books::default();
        let mut pb = 0;
        while pb < self.layout.pageblocks {
            pb += self.validate_pageblock(pb, &mut books);
        }
        self.validate_header(&books);
        for zone in Zone::all() {
            self.validate_zone(zone, &books.zones[zone.id() as usize]);
        }
        self.validate_conservation(&books, cached);
    }

    // ---- Indexes ----

    fn validate_indexes(&self) {
        for zone in 0..Zone::COUNT as u64 {
            let free = self.free(zone);
            self.validate_members(&free, |entry| {
                entry.state() == State::Free && entry.zone_id() == zone
            });
            self.validate_runs(zone, &free);
            for movability in Movability::ALL {
                for grade in 0..GRADES as u64 {
                    let named = |entry: Entry| {
                        entry.state() == State::Listed
                            && (entry.zone_id(), entry.movability()) == (zone, movability)
                            && entry.grade() == grade
                    };
                    self.validate_members(&self.listed(zone, movability, grade), named);
                }
            }
        }
    }

    /// Every member's entry must name the index.
    fn validate_members(&self, index: &Index<'_>, named: impl Fn(Entry) -> bool) {
        index.validate();
        let mut at = index.first();
        while let Some(pb) = at {
            let entry = self.entry(pb);
            assert!(
                named(entry),
                "{}: in an index that its entry does not name: {}",
                self.frames_of(pb),
                Said(entry)
            );
            at = index.first_from(pb + 1);
        }
    }

    fn validate_runs(&self, zone: u64, free: &Index<'_>) {
        for order in 1..=RUN_ORDERS {
            let noted = self.runs(zone, order);
            noted.validate();
            let mut at = free.first();
            while let Some(pb) = at {
                let word = pb / 64;
                let found = run_starts(free.leaf(word), order as u8) != 0;
                let promised =
                    || (order..=RUN_ORDERS).any(|order| self.runs(zone, order).contains(word));
                assert!(
                    !found || promised(),
                    "zone {zone}: word {word} has a run of 2^{order} free pageblocks, not noted"
                );
                at = free.first_from((word + 1) * 64);
            }
        }
    }

    // ---- Cores ----

    /// Returns how many frames the core caches.
    fn validate_core(&self, core: u16) -> u64 {
        let record = self.record(core);
        let get = |at: usize| record[at].load(Acquire);
        assert_eq!(get(record::LOCK), 0, "core {core}: locked, though nobody is in a call");
        let cached = self.masks(core).map(|(_, mask)| u64::from(mask.count_ones())).sum::<u64>();
        assert_eq!(get(record::CACHED), cached, "core {core}: frames that it counts as cached");
        assert!(cached <= CACHE_FRAMES, "core {core}: {cached} frames cached");
        if get(record::IN_USE) == 0 {
            assert_eq!(cached, 0, "core {core}: frames cached by a core that nobody has");
        }
        let careful = get(record::SUMMONS) & record::CAREFUL != 0;
        assert!(careful || self.retiring() == 0, "core {core}: knows nothing of frames to retire");
        for zone in 0..Zone::COUNT {
            let sum = get(record::FREED + zone) as i64;
            assert!(sum.abs() < FOLD, "core {core}: {sum} frames of zone {zone} not folded");
        }
        self.masks(core).for_each(|(word, mask)| self.validate_mask(core, word, mask));
        slots().for_each(|at| self.validate_slot(core, at));
        cached
    }

    fn validate_mask(&self, core: u16, word: u64, mask: u64) {
        let pb = word / WORDS;
        assert!(pb < self.layout.pageblocks, "core {core}: caches frames of word {word}");
        let (frames, found) = (self.frames_of(pb), self.load(word));
        assert_eq!(mask & !found.taken, 0, "{frames}: frames cached by core {core} are free");
        let tail = found.tail & !found.holes();
        let part = mask & (tail | tail >> 1);
        assert_eq!(part, 0, "{frames}: frames cached by core {core} are part of a block");
        assert_eq!(mask & found.held, 0, "{frames}: frames cached by core {core} are held");
        let all = (0..self.layout.geometry.cores).flat_map(|other| self.masks(other));
        let twice = all.filter(|&(at, other)| at == word && other & mask != 0).count();
        assert_eq!(twice, 1, "{frames}: frames cached by core {core} are cached more than once");
    }

    fn validate_slot(&self, core: u16, at: usize) {
        let record = self.record(core);
        let get = |word: usize| record[at + word].load(Acquire);
        if get(slot::MASK) != 0 {
            let pb = (get(slot::WORD) - 1) / WORDS;
            let (zone, entry) = (get(slot::ZONE), self.entry(pb));
            assert_eq!(zone, entry.zone_id(), "core {core}: zone of cached {}", self.frames_of(pb));
        }
        if let Some(pb) = get(slot::PAGEBLOCK).checked_sub(1) {
            let frames = self.frames_of(pb);
            assert_ne!(
                record[record::IN_USE].load(Acquire),
                0,
                "{frames}: has core {core}, unused"
            );
            assert_eq!(self.core_of(pb), Some(core), "{frames}: whose it is, if not core {core}'s");
            let kind = record::movability_of(at);
            assert_eq!(self.entry(pb).movability(), kind, "{frames}: movability, with core {core}");
        }
    }

    // ---- Pageblocks ----

    /// Returns how many pageblocks were looked at: more than one if a larger block starts here.
    fn validate_pageblock(&self, pb: u64, books: &mut Books) -> u64 {
        let (entry, frames) = (self.entry(pb), self.frames_of(pb));
        let isolated = self.isolated[(pb / 64) as usize].load(SeqCst) >> (pb % 64) & 1;
        if entry.state() == State::Absent {
            let words = (pb * WORDS..(pb + 1) * WORDS).map(|word| self.load(word));
            let mut rest = words.map(|word| word.taken | word.tail | word.held | word.retired);
            let zero = entry == Entry::ABSENT && isolated == 0 && rest.all(|word| word == 0);
            assert!(zero, "{frames}: absent, but something is noted of it");
            return 1;
        }
        assert!(self.index(frames.start).is_some(), "{frames}: before the first of the node");
        let zone = entry.zone_id();
        assert!(zone < Zone::COUNT as u64, "{frames}: zone {zone}");
        let count = match entry.state() {
            State::Tail => panic!("{frames}: tail of no block"),
            State::Head => self.validate_head(pb, entry),
            _ => 1,
        };
        for pb in pb..pb + count {
            let free = self.validate_bitmaps(pb, books);
            let isolated = self.isolated[(pb / 64) as usize].load(SeqCst) >> (pb % 64) & 1 != 0;
            self.validate_state(pb, free, isolated);
            books.isolated += u64::from(isolated);
            let (entry, zone) = (self.entry(pb), &mut books.zones[entry.zone_id() as usize]);
            zone.pageblocks += 1;
            zone.dedicated += u64::from(entry.is_dedicated());
            match entry.state() {
                State::Head | State::Tail => books.taken += FRAMES,
                _ => zone.free += free,
            }
        }
        count
    }

    /// Returns how many pageblocks the block has.
    fn validate_head(&self, pb: u64, head: Entry) -> u64 {
        let (frames, order) = (self.frames_of(pb), head.order());
        assert!(order >= PAGEBLOCK_ORDER, "{frames}: head of a block of order {order}");
        let count = pageblocks_in(order);
        let fits = pb.is_multiple_of(count) && pb + count <= self.layout.pageblocks;
        assert!(fits, "{frames}: head of a block of order {order}, not aligned or beyond the end");
        for tail in pb + 1..pb + count {
            let (frames, entry) = (self.frames_of(tail), self.entry(tail));
            assert_eq!(entry.state(), State::Tail, "{frames}: within a block of order {order}");
            assert_eq!(entry.zone(), head.zone(), "{frames}: zone, within a block");
        }
        count
    }

    /// That what a pageblock is fits how many of its frames are free, and where it stands.
    fn validate_state(&self, pb: u64, free: u64, isolated: bool) {
        let (entry, frames) = (self.entry(pb), self.frames_of(pb));
        let (state, zone) = (entry.state(), entry.zone_id());
        let exmem = entry.zone().is_exmem();
        let in_use = !matches!(state, State::Free | State::Isolated);
        let dedicated = entry.is_dedicated();
        assert!(exmem || !dedicated, "{frames}: dedicated, though in {}", entry.zone());
        assert!(!exmem || dedicated || !in_use, "{frames}: {state:?}, but not dedicated");
        let apart = matches!(state, State::Isolated | State::Head | State::Tail | State::Reserved);
        assert!(!isolated || apart, "{frames}: {state:?}, though isolated");
        match state {
            State::Free => {
                assert_eq!(free, FRAMES, "{frames}: free frames of a free pageblock");
                let bare = !entry.is_mixed() && !dedicated;
                assert!(bare, "{frames}: free, but mixed or dedicated");
                assert!(self.free(zone).contains(pb), "{frames}: free, but not in the index");
            }
            State::Listed => {
                assert!(0 < free && free < FRAMES, "{frames}: listed with {free} frames free");
                let list = self.listed(zone, entry.movability(), entry.grade());
                assert!(list.contains(pb), "{frames}: not in the list of {}", Said(entry));
            }
            State::Full => assert_eq!(free, 0, "{frames}: free frames of a full pageblock"),
            State::Owned => self.validate_owned(pb),
            State::Isolated => assert!(isolated, "{frames}: set aside, but not isolated"),
            State::Reserved => {
                let next = entry.link().checked_sub(1);
                let chained = next.is_none_or(|next| {
                    next < self.layout.pageblocks && self.entry(next).state() == State::Reserved
                });
                assert!(chained, "{frames}: reserved, with {} next", entry.link());
            }
            State::Head | State::Tail => {
                assert_eq!(free, FRAMES, "{frames}: the bitmaps of a block count as zero");
            }
            State::Absent => panic!("{frames}: absent"),
        }
    }

    fn validate_owned(&self, pb: u64) {
        let frames = self.frames_of(pb);
        let Some(core) = self.core_of(pb) else {
            panic!("{frames}: owned by no core: {}", Said(self.entry(pb)));
        };
        let record = self.record(core);
        let has = |&at: &usize| record[at + slot::PAGEBLOCK].load(Acquire) == pb + 1;
        let count = slots().filter(has).count();
        assert_eq!(count, 1, "{frames}: slots of core {core} that have it");
    }

    // ---- Counters ----

    fn validate_header(&self, books: &Books) {
        let marked: u64 =
            self.isolated.iter().map(|word| u64::from(word.load(SeqCst).count_ones())).sum();
        assert_eq!(books.isolated, marked, "marks of isolation, of pageblocks and in all");
        let counted = self.header[header::ISOLATED].load(SeqCst);
        assert_eq!(counted, marked, "isolated pageblocks, counted and marked");
        let counted = self.retired() + self.retiring();
        assert_eq!(counted, books.retired, "frames retired or to be, counted and marked");
    }

    fn validate_zone(&self, zone: Zone, books: &ZoneBooks) {
        let id = zone.id();
        let present = self.zone_word(id, header::PRESENT).load(Acquire);
        let should = books.pageblocks * FRAMES - books.holes;
        assert_eq!(present, should, "{zone}: frames present, counted and found");
        let cores = 0..self.layout.geometry.cores;
        let by_core = |core| self.record(core)[record::FREED + id as usize].load(Acquire);
        let free = cores
            .map(by_core)
            .fold(self.zone_word(id, header::FREE).load(Acquire), u64::wrapping_add);
        assert_eq!(free as i64, books.free as i64, "{zone}: frames free, counted and found");
        assert_eq!(self.dedicated(id), books.dedicated, "{zone}: pageblocks dedicated");
        let marks = self.watermarks(zone);
        let ascending = marks.min <= marks.low && marks.low <= marks.high;
        assert!(ascending, "{zone}: {marks:?}");
    }

    fn validate_conservation(&self, books: &Books, cached: u64) {
        let counts = self.counts();
        assert_eq!(counts.cached, cached, "frames cached, by the cores' counts and masks");
        let used = books.taken.checked_sub(cached + self.retired());
        assert_eq!(used, Some(counts.used), "frames in use, by their blocks and by the counters");
        let sum = counts.free + counts.cached + counts.used + counts.retired;
        assert_eq!(sum, counts.present, "free + cached + used + retired = present: {counts:?}");
    }
}

/// An entry, for people.
struct Said(Entry);

impl core::fmt::Display for Said {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(entry) = self;
        write!(f, "{:?} of zone {}, {:?}", entry.state(), entry.zone_id(), entry.movability())?;
        write!(f, ", grade {}, order {}, link {}", entry.grade(), entry.order(), entry.link())
    }
}

//! A modelled process: what the pager of a live program does, without the memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use memtide_units::{ImageId, MemberId, MoveId, Pageblock, TokenId};

use super::plan::{Access, Nanos};

/// A page of a process, as large as a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// Memory of the pool.
    Pool(Pageblock),
    /// Ordinary memory.
    Ordinary,
}

/// What a process waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Since when.
    pub since: Nanos,
    /// By when it must be answered.
    pub until: Nanos,
    /// How many pageblocks.
    pub count: u64,
    /// Whether they were asked for, or a promise of them.
    pub what: What,
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Pageblocks.
    Lease,
    /// A promise.
    Promise,
}

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Forked, but nobody has heard of it.
    Unborn,
    /// It runs.
    Running,
    /// It runs but answers no orders.
    Mute,
    /// It runs but its connection is lost.
    Away,
    /// It is gone.
    Gone,
}

/// Pairs of an order that are not answered yet.
pub type Pairs = VecDeque<(Pageblock, Pageblock)>;

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which program, as an index.
    pub program: usize,
    /// Whose, as an index.
    pub tenant: usize,
    /// Where it runs, as an index.
    pub processor: usize,
    /// Its names.
    pub member: MemberId,
    /// Its life token.
    pub token: TokenId,
    /// Its image.
    pub image: ImageId,
    /// Where it is in its life.
    pub life: Life,
    /// Its memory. The first are the hot ones.
    pub pages: Vec<Page>,
    /// Where in `pages` a pageblock is.
    pub places: BTreeMap<Pageblock, u32>,
    /// Those that it shares copy-on-write.
    pub frozen: BTreeSet<Pageblock>,
    /// Those that it made unmovable.
    pub pinned: BTreeSet<Pageblock>,
    /// How many pages it wants.
    pub wants: u64,
    /// What it does with them.
    pub access: Access,
    /// What it waits for.
    pub asked: Option<Asked>,
    /// Pageblocks that it was promised.
    pub promised: u64,
    /// Orders to move.
    pub orders: VecDeque<(MoveId, Pairs)>,
    /// What is to be mapped shared again.
    pub thaws: VecDeque<Pageblock>,
    /// How often its connection was lost.
    pub connection: u32,
    /// Destinations of moves that its connection's loss ended.
    pub unclaimed: Vec<Pageblock>,
    /// The processes that it forked.
    pub children: Vec<usize>,
}

impl Process {
    /// A process that has nothing.
    pub fn new(program: usize, tenant: usize, processor: usize, number: u64) -> Self {
        Self {
            program,
            tenant,
            processor,
            member: MemberId(number),
            token: TokenId(number),
            image: ImageId(0),
            life: Life::Running,
            pages: Vec::new(),
            places: BTreeMap::new(),
            frozen: BTreeSet::new(),
            pinned: BTreeSet::new(),
            wants: 0,
            access: Access::Idle,
            asked: None,
            promised: 0,
            orders: VecDeque::new(),
            thaws: VecDeque::new(),
            connection: 0,
            unclaimed: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        matches!(self.life, Life::Running | Life::Mute)
    }

    /// Adds a page.
    pub fn push(&mut self, page: Page) {
        if let Page::Pool(pageblock) = page {
            self.places.insert(pageblock, self.pages.len() as u32);
        }
        self.pages.push(page);
    }

    /// Takes the last page away.
    pub fn pop(&mut self) -> Option<Page> {
        let page = self.pages.pop()?;
        if let Page::Pool(pageblock) = page {
            self.places.remove(&pageblock);
            self.frozen.remove(&pageblock);
            self.pinned.remove(&pageblock);
        }
        Some(page)
    }

    /// Puts another pageblock in the place of one.
    pub fn replace(&mut self, from: Pageblock, to: Pageblock) {
        if let Some(place) = self.places.remove(&from) {
            self.pages[place as usize] = Page::Pool(to);
            self.places.insert(to, place);
        }
    }

    /// Takes a pageblock away, wherever it is; the last page takes its place.
    pub fn lose(&mut self, pageblock: Pageblock) {
        let Some(place) = self.places.remove(&pageblock) else { return };
        self.frozen.remove(&pageblock);
        self.pinned.remove(&pageblock);
        self.thaws.retain(|&other| other != pageblock);
        let place = place as usize;
        self.pages.swap_remove(place);
        if let Some(&Page::Pool(moved)) = self.pages.get(place) {
            self.places.insert(moved, place as u32);
        }
    }

    /// How many of its pages are ordinary memory.
    pub fn ordinary(&self) -> u64 {
        self.pages.len() as u64 - self.places.len() as u64
    }
}

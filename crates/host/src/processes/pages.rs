//! Moves a batch of pages to a node, and says of each that stayed why.
//!
//! `move_pages(2)` gives up at the first group of pages of which one would not move, and does not
//! say which pages it had not tried yet (see [`memtide_sys::numa::pages`]). Its answers show it:
//!
//! ```text
//! told told UNTOLD UNTOLD UNTOLD busy UNTOLD UNTOLD …
//!           └─── the group ────┘      └─ never tried
//! told told UNTOLD UNTOLD UNTOLD          (the group was moved at the end of the list)
//!           └─── the group ────┘
//! ```
//!
//! So one goes on behind the group, and in the end asks where every page is: that, and no answer to
//! a move, decides whether it moved. A page of a group that stayed was tried, ten times by the
//! kernel itself: somebody holds it.
//!
//! A transparent huge page is taken as a whole by its first address; the next address in it is then
//! told busy, which ends the group. It may stay for two reasons: the node has no 2 MiB in one
//! piece, then the kernel has split it and moved what it could, without a word; or it is held, then
//! each such pair of addresses would cost a call. So where a mapping has huge pages, a pair is
//! tried again, and when it is told the same twice, that speaks for the rest of its 2 MiB.

use memtide_sys::numa::{Moved, PageStatus, Process, WhichPages, move_pages, where_are};
use memtide_units::NodeId;
use rustix::io::Errno;

/// Who moves pages: the kernel, or a model of it.
pub trait Mover {
    /// As [`memtide_sys::numa::where_are`].
    ///
    /// # Errors
    /// The kernel's.
    fn where_are(&mut self, addresses: &[usize]) -> Result<Vec<PageStatus>, Errno>;

    /// As [`memtide_sys::numa::move_pages`].
    fn move_pages(&mut self, addresses: &[usize], to: NodeId, which: WhichPages) -> Moved;
}

/// The kernel, moving pages of this process.
impl Mover for Process {
    fn where_are(&mut self, addresses: &[usize]) -> Result<Vec<PageStatus>, Errno> {
        where_are(*self, addresses)
    }

    fn move_pages(&mut self, addresses: &[usize], to: NodeId, which: WhichPages) -> Moved {
        move_pages(*self, addresses, to, which)
    }
}

/// Why a page stayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stays {
    /// Other processes map it too, and shared pages were not to be moved.
    Shared,
    /// Somebody holds it by reference: a transfer under way, a pin.
    Held,
    /// The kernel does not move this kind of mapping.
    Unmovable,
    /// The node has no room.
    NoRoom,
    /// The node has no memory any more.
    NodeGone,
    /// The process's cpuset keeps it off the node.
    NotAllowed,
}

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// It is on the node.
    Moved,
    /// It is elsewhere.
    Stays(Stays),
    /// The process gave it up meanwhile, or it was swapped out.
    Gone,
}

/// Whether a mapping has transparent huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HugePages {
    /// None are mapped.
    None,
    /// Some are.
    Some,
}

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

/// Moves pages, ascending by address, of one mapping.
///
/// # Errors
/// The kernel's, when nothing can be said any more: `ESRCH` and `EINVAL` the process is gone,
/// `EPERM` no right. Some pages may have moved.
pub fn move_batch(
    mover: &mut impl Mover,
    addresses: &[usize],
    to: NodeId,
    which: WhichPages,
    huge: HugePages,
) -> Result<Vec<Fate>, Errno> {
    let mut why = vec![Stays::Held; addresses.len()];
    let mut next = 0;
    // Of which 2 MiB a pair was tried again.
    let mut again = None;
    while next < addresses.len() {
        let moved = mover.move_pages(&addresses[next..], to, which);
        for (why, page) in why[next..].iter_mut().zip(&moved.pages) {
            if let PageStatus::Not(errno) = page {
                *why = reason(*errno);
            }
        }
        let all_of_it = match moved.ended {
            Ok(()) if moved.left == 0 => break,
            Ok(()) => {
                next += tried(&moved.pages);
                if huge == HugePages::Some
                    && let Some(pair) = huge_page(addresses, next)
                {
                    if again == Some(pair) {
                        next += rest_of(pair, &addresses[next..]);
                    } else {
                        again = Some(pair);
                        next -= 2;
                    }
                }
                continue;
            }
            Err(Errno::NOMEM) => Stays::NoRoom,
            Err(Errno::NODEV) => Stays::NodeGone,
            Err(Errno::ACCESS) => Stays::NotAllowed,
            Err(errno) => return Err(errno),
        };
        // The page that ended the group may be a part of one in it.
        let end = tried(&moved.pages) - 1;
        for (at, (why, page)) in why[next..].iter_mut().zip(&moved.pages).enumerate() {
            let part = at == end && *page == PageStatus::Not(Errno::BUSY);
            if part || *page == PageStatus::Untold {
                *why = all_of_it;
            }
        }
        break;
    }
    let places = mover.where_are(addresses)?;
    Ok(places.into_iter().zip(why).map(|(place, why)| fate(place, to, why)).collect())
}

fn fate(place: PageStatus, to: NodeId, why: Stays) -> Fate {
    match place {
        PageStatus::On(node) if node == to => Fate::Moved,
        PageStatus::On(_) => Fate::Stays(why),
        PageStatus::Not(_) | PageStatus::Untold => Fate::Gone,
    }
}

fn reason(errno: Errno) -> Stays {
    match errno {
        Errno::ACCESS => Stays::Shared,
        Errno::FAULT | Errno::NOENT => Stays::Unmovable,
        Errno::NOMEM => Stays::NoRoom,
        _ => Stays::Held,
    }
}

/// How many pages of an attempt that was given up were tried: all up to and with the one that
/// ended the group. At least one, so that there is an end to it.
fn tried(pages: &[PageStatus]) -> usize {
    let told = |page: &PageStatus| *page != PageStatus::Untold;
    match pages.iter().rposition(told) {
        Some(last) if last > 0 && !told(&pages[last - 1]) => last + 1,
        // The group was the last one of the list.
        _ => pages.len().max(1),
    }
}

/// Which 2 MiB the two pages before `next` share, if they are neighbours in it.
fn huge_page(addresses: &[usize], next: usize) -> Option<usize> {
    let &[first, second] = addresses.get(next.checked_sub(2)?..next)? else { return None };
    (first + PAGE == second && first / HUGE == second / HUGE).then_some(first / HUGE)
}

/// How many of the first pages lie in this 2 MiB.
fn rest_of(huge: usize, addresses: &[usize]) -> usize {
    addresses.iter().take_while(|&address| address / HUGE == huge).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtide_units::Random;

    const FAR: NodeId = NodeId(1);

    /// A page of the model, as `do_pages_move` sees it.
    #[derive(Clone, Copy)]
    struct Page {
        node: NodeId,
        /// The first page of its folio.
        folio: usize,
        held: bool,
        shared: bool,
        off_list: bool,
        there: bool,
    }

    /// `do_pages_move` of mm/migrate.c, over pages of a vector.
    struct Model {
        pages: Vec<Page>,
        room: usize,
        calls: usize,
    }

    impl Model {
        fn index(address: usize) -> usize {
            address / PAGE - 1
        }

        fn folio(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
            let folio = self.pages[index].folio;
            let members: Vec<usize> =
                (0..self.pages.len()).filter(|&page| self.pages[page].folio == folio).collect();
            members.into_iter()
        }

        /// Moves a group; how many folios would not.
        fn flush(&mut self, group: &mut Vec<usize>, to: NodeId) -> Result<usize, Errno> {
            let mut failed = 0;
            let mut full = false;
            for index in group.drain(..) {
                let members: Vec<usize> = self.folio(index).collect();
                if members.iter().any(|&page| self.pages[page].held) {
                    failed += 1;
                } else if self.room < members.len() && members.len() > 1 {
                    // No room for it in one piece: it is split, and moved as far as it goes.
                    failed += 1;
                    for page in members {
                        self.pages[page].folio = page;
                        if self.room > 0 {
                            self.room -= 1;
                            self.pages[page].node = to;
                        }
                    }
                } else if self.room < members.len() {
                    full = true;
                } else {
                    self.room -= members.len();
                    members.into_iter().for_each(|page| self.pages[page].node = to);
                }
            }
            if full { Err(Errno::NOMEM) } else { Ok(failed) }
        }
    }

    impl Mover for Model {
        fn where_are(&mut self, addresses: &[usize]) -> Result<Vec<PageStatus>, Errno> {
            let at = |&address: &usize| {
                let page = self.pages[Self::index(address)];
                if page.there { PageStatus::On(page.node) } else { PageStatus::Not(Errno::NOENT) }
            };
            Ok(addresses.iter().map(at).collect())
        }

        fn move_pages(&mut self, addresses: &[usize], to: NodeId, which: WhichPages) -> Moved {
            self.calls += 1;
            let mut pages = vec![PageStatus::Untold; addresses.len()];
            let mut group: Vec<usize> = Vec::new();
            let mut start = 0;
            for (at, &address) in addresses.iter().enumerate() {
                let index = Self::index(address);
                let page = self.pages[index];
                let taken = group.iter().any(|&other| self.pages[other].folio == page.folio);
                let told = if !page.there {
                    PageStatus::Not(Errno::NOENT)
                } else if page.node == to {
                    PageStatus::On(to)
                } else if page.shared && which == WhichPages::Own {
                    PageStatus::Not(Errno::ACCESS)
                } else if page.off_list || taken {
                    PageStatus::Not(Errno::BUSY)
                } else {
                    group.push(index);
                    continue;
                };
                pages[at] = told;
                match self.flush(&mut group, to) {
                    Ok(0) => pages[start..at].fill(PageStatus::On(to)),
                    Ok(failed) => {
                        return Moved {
                            pages,
                            ended: Ok(()),
                            left: failed + addresses.len() - at - 1,
                        };
                    }
                    Err(errno) => return Moved { pages, ended: Err(errno), left: 0 },
                }
                start = at + 1;
            }
            let ended = self.flush(&mut group, to);
            if ended == Ok(0) {
                pages[start..].fill(PageStatus::On(to));
            }
            Moved { pages, left: ended.unwrap_or(0), ended: ended.map(|_| ()) }
        }
    }

    fn addresses(count: usize) -> Vec<usize> {
        (1..=count).map(|page| page * PAGE).collect()
    }

    fn page(folio: usize) -> Page {
        let (held, shared, off_list, there) = (false, false, false, true);
        Page { node: NodeId(0), folio, held, shared, off_list, there }
    }

    /// Every page that can move has moved, and of the others the reason is the right one.
    #[test]
    fn what_can_move_moves_and_the_rest_is_explained() {
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            let mut chance = |one_in: u64| random.below(one_in) == 0;
            let count = 1 + seed as usize % 60;
            let mut folio = 0;
            let pages: Vec<Page> = (0..count)
                .map(|index| {
                    if !chance(3) {
                        folio = index;
                    }
                    let held = chance(6);
                    let (shared, there) = (chance(10), !chance(12));
                    let off_list = chance(15);
                    Page { held, shared, off_list, there, ..page(folio) }
                })
                .collect();
            let mut model = Model { pages, room: usize::MAX, calls: 0 };
            let before = model.pages.clone();
            let all = addresses(count);
            let fates =
                move_batch(&mut model, &all, FAR, WhichPages::Own, HugePages::None).unwrap();
            for (index, fate) in fates.iter().enumerate() {
                let page = before[index];
                let folio: Vec<&Page> =
                    before.iter().filter(|other| other.folio == page.folio).collect();
                // A folio moves as soon as one of its pages can be taken, unless it is held.
                let takes = |page: &&&Page| page.there && !page.shared && !page.off_list;
                let moves = folio.iter().any(|page| takes(&page)) && !folio.iter().any(|p| p.held);
                let right = match fate {
                    Fate::Gone => !page.there,
                    Fate::Moved => page.there && moves,
                    Fate::Stays(Stays::Shared) => page.there && page.shared && !moves,
                    Fate::Stays(Stays::Held) => page.there && !page.shared && !moves,
                    Fate::Stays(_) => false,
                };
                assert!(right, "seed {seed}, page {index}: {fate:?}");
            }
            assert!(model.calls <= count, "seed {seed}: {} calls", model.calls);
        }
    }

    #[test]
    fn a_held_page_keeps_none_of_its_neighbours() {
        let mut pages: Vec<Page> = (0..1000).map(page).collect();
        for index in [0, 500, 999] {
            pages[index].held = true;
        }
        let mut model = Model { pages, room: usize::MAX, calls: 0 };
        let fates = move_batch(&mut model, &addresses(1000), FAR, WhichPages::Own, HugePages::None);
        let fates = fates.unwrap();
        let stayed: Vec<usize> = (0..1000).filter(|&at| fates[at] != Fate::Moved).collect();
        assert_eq!(stayed, [0, 500, 999]);
        assert_eq!(model.calls, 1);
    }

    #[test]
    fn a_node_without_room_takes_what_it_can() {
        let mut model = Model { pages: (0..10).map(page).collect(), room: 4, calls: 0 };
        let all = addresses(10);
        let fates = move_batch(&mut model, &all, FAR, WhichPages::Own, HugePages::None).unwrap();
        assert_eq!(fates.iter().filter(|&&fate| fate == Fate::Moved).count(), 4);
        assert!(fates[4..].iter().all(|&fate| fate == Fate::Stays(Stays::NoRoom)), "{fates:?}");
    }

    #[test]
    fn a_held_huge_page_costs_one_call_and_no_neighbour() {
        // Two huge pages from 2 MiB on, the first one held, then one small page.
        let first = HUGE / PAGE - 1;
        let count = first + 2 * 512 + 1;
        let folio_of = |index: usize| match index {
            _ if index < first || index == count - 1 => index,
            _ if index < first + 512 => first,
            _ => first + 512,
        };
        let mut pages: Vec<Page> = (0..count).map(|index| page(folio_of(index))).collect();
        pages[first].held = true;
        let mut model = Model { pages, room: usize::MAX, calls: 0 };
        let all = addresses(count);
        let fates = move_batch(&mut model, &all, FAR, WhichPages::Own, HugePages::Some).unwrap();
        for (index, fate) in fates.iter().enumerate() {
            let held = (first..first + 512).contains(&index);
            assert_eq!(*fate == Fate::Stays(Stays::Held), held, "{index}: {fate:?}");
        }
        assert!(model.calls <= 4, "{}", model.calls);
    }

    #[test]
    fn a_huge_page_without_room_is_no_held_one() {
        let first = HUGE / PAGE - 1;
        let count = first + 3 * 512;
        let folio_of =
            |index: usize| if index < first { index } else { first + (index - first) / 512 * 512 };
        let pages: Vec<Page> = (0..count).map(|index| page(folio_of(index))).collect();
        let mut model = Model { pages, room: first + 700, calls: 0 };
        let all = addresses(count);
        let fates = move_batch(&mut model, &all, FAR, WhichPages::Own, HugePages::Some).unwrap();
        let moved = fates.iter().filter(|&&fate| fate == Fate::Moved).count();
        let no_room = fates.iter().filter(|&&fate| fate == Fate::Stays(Stays::NoRoom)).count();
        assert_eq!((moved, moved + no_room), (first + 700, count));
    }

    #[test]
    fn this_process_can_be_asked_for_real() {
        let memory = vec![1u8; 64 * PAGE];
        let first = memory.as_ptr().addr().next_multiple_of(PAGE);
        let all: Vec<usize> = (0..60).map(|page| first + page * PAGE).collect();
        let PageStatus::On(node) = where_are(Process::Own, &all).unwrap()[0] else { panic!() };
        let mut own = Process::Own;
        let fates = move_batch(&mut own, &all, node, WhichPages::Own, HugePages::None).unwrap();
        assert_eq!(fates, [Fate::Moved; 60]);
        let absent = NodeId(1023);
        let fates = move_batch(&mut own, &all, absent, WhichPages::Own, HugePages::None).unwrap();
        assert_eq!(fates, [Fate::Stays(Stays::NodeGone); 60]);
        let mut nobody = Process::Other(u32::MAX);
        let refused = move_batch(&mut nobody, &all, node, WhichPages::Own, HugePages::None);
        assert_eq!(refused, Err(Errno::SRCH));
    }
}

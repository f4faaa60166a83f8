//! The part of the walk that names things: numbers, ranges, blocks of the pool. Much of it names
//! them wrongly, and what is refused must leave every word of the metadata as it was.

use memtide_frames::{FrameRange, Movability, Order, Pfn, Request, TakeAtError};

use super::{
    named::Named,
    op::{By, Op, Place},
    shape::PAGEBLOCK,
    walk::{Token, Walk},
};

impl<'f> Walk<'f> {
    /// Does it, if it names something.
    pub fn apply_named(&mut self, op: Op) {
        match op {
            Op::Drop { pick } => self.drop_held(pick),
            Op::IntoNumber { pick } => self.hold_by_number(pick),
            Op::Adopt { place, order } => self.adopt(place, order),
            Op::GiveNumber { core, place, order } => self.give_number(core, place, order),
            Op::GiveForeign { by } => self.give_foreign(by),
            Op::TakeAt { place, order, movability } => self.take_at(place, order, movability),
            Op::Scatter { place, distance, times, movability } => {
                let start = self.pfn(place).0;
                let end = self.model.span().end().unwrap().0;
                let places = (start..end).step_by(distance.into()).take(times.into());
                places.for_each(|pfn| self.take_if_free(pfn, movability));
            }
            Op::TakeRange { place, frames, movability } => {
                self.take_range(FrameRange::new(self.pfn(place), frames.into()), movability);
            }
            Op::IntoFrames { pick, keep } => self.take_apart(pick, keep),
            Op::Split { pick } => self.split(pick),
            Op::Merge { pick } => self.merge_buddies(pick),
            Op::MergeAny { pick, other } => {
                if let (Some(at), Some(other)) = (self.pick(pick), self.pick(other)) {
                    self.merge(at, other);
                }
            }
            Op::Open { core, limit } => self.open(core, limit),
            Op::Add { units, zone } => {
                let range = self.range(units);
                let expected = self.model.add(range, zone);
                self.plug(expected, |walk| walk.frames.add(range, zone));
            }
            Op::Isolate { units } => {
                let range = self.range(units);
                let expected = self.model.isolate(range);
                self.plug(expected, |walk| walk.frames.isolate(range));
            }
            Op::Unisolate { units } => {
                let range = self.range(units);
                let expected = self.model.unisolate(range);
                self.plug(expected, |walk| walk.frames.unisolate(range));
            }
            Op::Remove { units } => self.remove(self.range(units)),
            Op::Retire { place } => self.retire(self.pfn(place)),
            Op::Exclude { place, frames } => {
                self.exclude(FrameRange::new(self.pfn(place), frames.into()));
            }
            Op::SetWatermarks { zone, min, low, high } => {
                self.set_watermarks(zone, min.into(), low.into(), high.into());
            }
            Op::Crossing { core } => {
                if let Some(crossing) = self.core(Some(core)).and_then(|core| core.crossing()) {
                    assert_eq!(crossing.pressure, self.frames.pressure(crossing.zone));
                }
            }
            _ => unreachable!("{op:?}"),
        }
    }

    /// Does what must be refused: nothing changes.
    pub fn refused<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.words();
        let result = what(self);
        let after = self.words();
        let changed = before.iter().zip(&after).position(|(before, after)| before != after);
        assert_eq!(changed, None, "word changed by what was refused");
        result
    }

    // ---- Numbers ----

    fn drop_held(&mut self, pick: u16) {
        let Some(at) = self.pick(pick) else { return };
        if !matches!(self.tokens[at].1, Token::Number(..)) {
            let (name, token) = self.tokens.swap_remove(at);
            drop(token);
            self.model.give(name);
        }
    }

    fn hold_by_number(&mut self, pick: u16) {
        let Some(at) = self.pick(pick) else { return };
        let (name, token) = self.tokens.swap_remove(at);
        let token = match token {
            Token::Frame(frame) => {
                let (pfn, order) = frame.into_number();
                let held = self.model.held.get_mut(&name).unwrap();
                held.by_number = true;
                assert_eq!((pfn.0, order), (held.start, held.order()));
                Token::Number(pfn, order)
            }
            other => other,
        };
        self.tokens.push((name, token));
    }

    fn token(&self, name: u32) -> usize {
        self.tokens.iter().position(|&(token, _)| token == name).unwrap()
    }

    fn adopt(&mut self, place: Place, order: Order) {
        let pfn = self.pfn(place);
        match self.model.by_number(pfn, order) {
            Ok(name) => {
                let frame = self.frames.adopt(pfn, order).unwrap();
                assert_eq!((frame.pfn(), frame.order()), (pfn, order));
                let at = self.token(name);
                self.tokens[at].1 = Token::Frame(frame);
                self.model.held.get_mut(&name).unwrap().by_number = false;
            }
            Err(expected) => {
                let error = self.refused(|walk| walk.frames.adopt(pfn, order).unwrap_err());
                assert_eq!(error, expected);
            }
        }
    }

    fn give_number(&mut self, core: u8, place: Place, order: Order) {
        let pfn = self.pfn(place);
        let expected = self.model.by_number(pfn, order);
        if self.core(Some(core)).is_none() {
            return;
        }
        let give = |walk: &mut Self| walk.core(Some(core)).unwrap().give_number(pfn, order);
        match expected {
            Ok(name) => {
                give(self).unwrap();
                self.tokens.swap_remove(self.token(name));
                self.model.give(name);
            }
            Err(expected) => assert_eq!(self.refused(give), Err(expected)),
        }
    }

    fn give_foreign(&mut self, by: By) {
        let frame = self.other.take(Request::new(Order::FRAME, Movability::Movable)).unwrap();
        let pfn = frame.pfn();
        let error = self.refused(|walk| {
            let frames = walk.frames;
            match walk.core(by) {
                Some(core) => core.give(frame).unwrap_err(),
                None => frames.give(frame).unwrap_err(),
            }
        });
        assert_eq!((error.frame.pfn(), error.node), (pfn, self.frames.span()));
        drop(error);
        let other = self.other.take(Request::new(Order::PAGEBLOCK, Movability::Movable));
        assert!(other.is_ok(), "the frame went back to its own node");
    }

    // ---- Taking what is named ----

    /// Attempts something named, twice if cores cache anything. Whether it came to pass.
    pub fn name<T>(
        &mut self,
        (range, block, movability): (FrameRange, Option<Order>, Movability),
        attempt: impl Fn(&Self) -> Result<T, TakeAtError>,
    ) -> Option<T> {
        let mut result = attempt(self);
        if result.is_err() && !self.settled {
            self.settle();
            result = attempt(self);
        }
        let expected = self.model.named(range, block, movability);
        let node = self.frames.span();
        match result {
            Ok(taken) => {
                assert_eq!(expected, Named::Free, "{range} taken");
                return Some(taken);
            }
            Err(TakeAtError::Foreign { range: r, node: n }) => {
                assert_eq!((expected, r, n), (Named::Foreign, range, node));
            }
            Err(TakeAtError::Unaligned { range: r }) => {
                assert_eq!((expected, r), (Named::Unaligned, range));
            }
            Err(TakeAtError::Busy { range: r, busy }) => {
                assert!(matches!(expected, Named::Refused { busy: true, .. }), "{expected:?}");
                assert!(r == range && range.contains(busy));
                assert!(!self.model.is_free(busy.0..busy.0 + 1), "{range}: {busy} called busy");
            }
            Err(TakeAtError::Zone { range: r, zone }) => {
                assert!(matches!(expected, Named::Refused { zone: true, .. }), "{expected:?}");
                let last = range.end().unwrap().0 - 1;
                let mut parts = (range.start.0..last).step_by(PAGEBLOCK as usize).chain([last]);
                assert!(parts.any(|pfn| self.model.pageblock(pfn).zone == Some(zone)));
                assert_eq!(r, range);
            }
            Err(error) => panic!("{error}"),
        }
        None
    }

    fn take_at(&mut self, place: Place, order: Order, movability: Movability) {
        let pfn = self.pfn(place);
        let range = FrameRange::new(pfn, order.frames());
        let frames = self.frames;
        let attempt = |_: &Self| frames.take_at(pfn, order, movability);
        if let Some(frame) = self.name((range, Some(order), movability), attempt) {
            assert_eq!((frame.pfn(), frame.order()), (pfn, order));
            self.check_descriptor(pfn, movability);
            let name = self.model.take(pfn.0, order.frames(), movability);
            self.tokens.push((name, Token::Frame(frame)));
        }
    }

    fn take_if_free(&mut self, pfn: u64, movability: Movability) {
        if let Ok(frame) = self.frames.take_at(Pfn(pfn), Order::FRAME, movability) {
            let name = self.model.take(pfn, 1, movability);
            self.tokens.push((name, Token::Frame(frame)));
        }
    }

    fn take_range(&mut self, range: FrameRange, movability: Movability) {
        let frames = self.frames;
        let attempt = |_: &Self| frames.take_range(range, movability);
        if let Some(run) = self.name((range, None, movability), attempt) {
            assert_eq!(run.range(), range);
            let name = self.model.take(range.start.0, range.frames, movability);
            self.tokens.push((name, Token::Run(run)));
        }
    }

    fn take_apart(&mut self, pick: u16, keep: u8) {
        let Some(at) = self.pick(pick) else { return };
        if !matches!(self.tokens[at].1, Token::Run(_)) {
            return;
        }
        let (name, token) = self.tokens.swap_remove(at);
        let Token::Run(run) = token else { unreachable!() };
        let expected = self.model.blocks(run.range().start.0, run.range().frames);
        let keep = usize::from(keep) % (expected.len() + 1);
        let names = self.model.replace(&[name], &expected);
        let mut all = run.into_frames();
        for (&name, &(start, frames)) in names.iter().zip(&expected).take(keep) {
            let frame = all.next().unwrap();
            assert_eq!((frame.pfn().0, frame.order().frames()), (start, frames));
            self.tokens.push((name, Token::Frame(frame)));
        }
        drop(all);
        names[keep..].iter().for_each(|&name| self.model.give(name));
    }

    // ---- Splitting and merging ----

    fn split(&mut self, pick: u16) {
        let Some(at) = self.pick(pick) else { return };
        if !matches!(self.tokens[at].1, Token::Frame(_)) {
            return;
        }
        let (name, token) = self.tokens.swap_remove(at);
        let Token::Frame(frame) = token else { unreachable!() };
        let (start, frames) = (frame.pfn().0, frame.order().frames());
        if frames == 1 {
            let frame = self.refused(|_| frame.split().unwrap_err());
            return self.tokens.push((name, Token::Frame(frame)));
        }
        let (low, high) = frame.split().unwrap();
        let half = frames / 2;
        assert_eq!((low.pfn().0, low.order().frames()), (start, half));
        assert_eq!((high.pfn().0, high.order().frames()), (start + half, half));
        let names = self.model.replace(&[name], &[(start, half), (start + half, half)]);
        self.tokens.push((names[0], Token::Frame(low)));
        self.tokens.push((names[1], Token::Frame(high)));
    }

    fn merge_buddies(&mut self, pick: u16) {
        let Some(at) = self.pick(pick) else { return };
        let held = self.model.held[&self.tokens[at].0];
        let buddy = held.start ^ held.frames;
        let is_buddy = |token: &(u32, Token<'f>)| {
            let other = self.model.held[&token.0];
            (other.start, other.frames) == (buddy, held.frames)
        };
        if let Some(other) = self.tokens.iter().position(is_buddy) {
            self.merge(at, other);
        }
    }

    fn merge(&mut self, at: usize, other: usize) {
        let frames = [at, other].map(|at| matches!(self.tokens[at].1, Token::Frame(_)));
        if at == other || frames != [true; 2] {
            return;
        }
        let [(first, a), (second, b)] = {
            let later = self.tokens.swap_remove(at.max(other));
            [self.tokens.swap_remove(at.min(other)), later]
        };
        let [x, y] = [first, second].map(|name| self.model.held[&name]);
        let (low, size) = (x.start.min(y.start), x.frames);
        let zone = |start| self.model.pageblock(start).zone;
        // A pageblock that is to be retired in part stays in parts.
        let noted = || self.model.noted.range(low..low + 2 * size).next().is_some();
        let fits = x.frames == y.frames
            && x.start ^ y.start == size
            && low.is_multiple_of(2 * size)
            && 2 * size <= Order::MAX.frames()
            && zone(x.start) == zone(y.start)
            && !(2 * size == PAGEBLOCK && noted());
        let (Token::Frame(a), Token::Frame(b)) = (a, b) else { unreachable!() };
        if fits {
            let frame = a.merge(b).unwrap();
            assert_eq!((frame.pfn().0, frame.order().frames()), (low, 2 * size));
            let names = self.model.replace(&[first, second], &[(low, 2 * size)]);
            self.tokens.push((names[0], Token::Frame(frame)));
        } else {
            let (a, b) = self.refused(|_| a.merge(b).unwrap_err());
            self.tokens.push((first, Token::Frame(a)));
            self.tokens.push((second, Token::Frame(b)));
        }
    }
}

//! What the engine decides, carried out.

use std::collections::BTreeMap;

use memtide_engine::{Effect, Input, Refusal};
use memtide_proto::{ControlReply, ToProgram, codec::MAX_LIST, control::Report};
use memtide_units::{ByteSize, Extent, ImageId, MemberId, RequestId, TokenId};

use crate::{
    control,
    daemon::{ConnectionId, Daemon, Member},
    dcd::FIRST_REQUEST,
    explain::Past,
    notice::Notice,
};

impl Daemon {
    /// Something happened; carries out what the engine makes of it.
    pub(crate) fn ask_engine(&mut self, input: Input) -> Result<(), Refusal> {
        let effects = self.decide(input)?;
        self.carry_out_all(effects);
        Ok(())
    }

    /// Something happened; what the engine makes of it, to be carried out by
    /// [`Daemon::carry_out_all`] when whoever it concerns can be told.
    pub(crate) fn decide(&mut self, input: Input) -> Result<Vec<Effect>, Refusal> {
        self.before_last_return(&input);
        let now = self.engine_now();
        self.engine.handle(now, input)
    }

    pub(crate) fn carry_out_all(&mut self, effects: Vec<Effect>) {
        self.end_takeover();
        let asked = |effect: &Effect| match effect {
            // Whoever asked may have gone since; those of devices are not operators'.
            Effect::Answer { request, .. } => *request < FIRST_REQUEST,
            _ => false,
        };
        let is_answered = effects.iter().any(asked);
        for effect in &effects {
            self.carry_out(effect.clone());
        }
        self.tell_port(&effects);
        // What an operator took out of a device's node is the device's again.
        if is_answered {
            self.release_idle();
        }
    }

    /// The same, for what the engine may have heard of before: a refusal changes nothing.
    pub(crate) fn tell_engine(&mut self, input: Input) {
        let _ = self.ask_engine(input);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Grant { member, extents } => {
                self.send_to_member(member, &ToProgram::Grant { extents });
            }
            Effect::Move { member, id, pairs } => {
                for part in pairs.chunks(MAX_LIST) {
                    self.send_to_member(member, &ToProgram::Move { id, pairs: part.to_vec() });
                }
            }
            Effect::Thaw { member, extents } => {
                for part in extents.chunks(MAX_LIST) {
                    self.send_to_member(member, &ToProgram::Thaw { extents: part.to_vec() });
                }
            }
            Effect::Zero { image, extents } => self.zeroing.push(image, extents),
            Effect::ImageGone { image } => {
                self.images.remove(image);
                self.tenants.remove(&image);
            }
            Effect::ForgetToken { token } => self.forget_token(token),
            Effect::Offlined { extents, .. } => {
                self.summary.returned.0 += extents.iter().map(|run| run.bytes()).sum::<u64>();
                self.state_changed = true;
            }
            Effect::Onlined { .. } => self.state_changed = true,
            Effect::Progress { request, done, of } => self.progress(request, done, of),
            Effect::Answer { request, report } => self.answer(request, report),
            Effect::Promise { member, granted } => {
                self.send_to_member(member, &ToProgram::Commit { granted });
            }
            Effect::Lost { member, extents } | Effect::Poisoned { member, extents } => {
                self.tell_lost(member, &extents);
            }
            Effect::SaveDevice { .. } | Effect::RestoreDevice { .. } => {
                unreachable!("the engine is told of no evacuations here")
            }
        }
    }

    pub(crate) fn send(&mut self, id: ConnectionId, message: &impl serde::Serialize) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.connection.send(message, Vec::new());
        }
    }

    fn send_to_member(&mut self, member: MemberId, message: &ToProgram) {
        if let Some(id) = self.members.get(&member).and_then(|member| member.connection) {
            self.send(id, message);
        }
    }

    /// Memory of a process is gone.
    fn tell_lost(&mut self, member: MemberId, extents: &[Extent]) {
        for part in extents.chunks(MAX_LIST) {
            self.send_to_member(member, &ToProgram::Lost { extents: part.to_vec() });
        }
        if let Some(Member { pid, name, .. }) = self.members.get(&member) {
            let bytes = ByteSize(extents.iter().map(|run| run.bytes()).sum());
            let notice = Notice::ProcessLost { pid: *pid, name: name.clone(), bytes };
            self.notice(notice);
        }
    }

    fn progress(&mut self, request: RequestId, done: ByteSize, of: ByteSize) {
        if let Some(id) = self.requests.get(&request).copied() {
            self.send(id, &ControlReply::Progress { done, of });
        }
    }

    fn answer(&mut self, request: RequestId, report: memtide_engine::Report) {
        let Some(asker) = self.requests.remove(&request) else { return };
        let report = control::report(report, |image| self.tenant_of_image(image));
        let parts = control::chunks(&report.holders);
        let last = parts.len() - 1;
        for (index, holders) in parts.into_iter().enumerate() {
            let report = Report { holders, ..report.clone() };
            self.send(asker, &ControlReply::Report { report, more: index < last });
        }
        self.close(asker);
    }

    /// Ends a connection once its answer is out.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.connection.close();
        }
    }

    /// Nothing maps this token any more.
    pub(crate) fn token_gone(&mut self, token: TokenId) {
        self.tell_engine(Input::TokenGone { token });
        self.forget_members();
    }

    fn forget_token(&mut self, token: TokenId) {
        self.tokens.remove(token);
        self.forget_members();
    }

    /// Drops what is known of processes that the engine has dropped.
    fn forget_members(&mut self) {
        let engine = &self.engine;
        let mut gone = BTreeMap::new();
        self.members.retain(|id, member| {
            let is_there = engine.image_of(*id).is_some();
            if !is_there {
                let name = std::mem::take(&mut member.name);
                gone.insert(*id, Past { pid: member.pid, image: member.image, name });
            }
            is_there
        });
        self.state_changed |= !gone.is_empty();
        self.remember(gone);
    }

    /// Frees some of what waits to be freed.
    pub(crate) fn zero_some(&mut self) {
        if self.zeroing.is_empty() {
            return;
        }
        let (images, firsts, dcd) = (&self.images, &self.firsts, &self.dcd);
        let turn = self.zeroing.turn(|image, extent| {
            let node = firsts.partition_point(|first| *first <= extent.start) - 1;
            // A device's file is all images': what one has left is in it, whoever still has it.
            dcd.zero(node, extent).unwrap_or_else(|| images.zero(image, node, extent))
        });
        for (image, extents) in by_image(turn.done) {
            self.tell_engine(Input::Zeroed { image, extents });
        }
        for (image, extent, error) in turn.failed {
            self.notice(Notice::NotZeroed { image, extent, error });
        }
    }
}

/// Runs of pageblocks of one image after the other.
fn by_image(done: Vec<(ImageId, Extent)>) -> Vec<(ImageId, Vec<Extent>)> {
    let mut all: Vec<(ImageId, Vec<Extent>)> = Vec::new();
    for (image, extent) in done {
        match all.last_mut() {
            Some((last, extents)) if *last == image => extents.push(extent),
            _ => all.push((image, vec![extent])),
        }
    }
    all
}

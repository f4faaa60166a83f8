//! What a later daemon must know, and whom of an earlier one this daemon awaits.

use memtide_engine as engine;
use memtide_sys::process;

use super::{Daemon, RunError, node_id};
use crate::{
    start,
    state::{self, State},
    zones,
};

impl Daemon {
    /// Keeps what a later daemon must know, if it has changed. Called before anything is sent
    /// that depends on it.
    pub(super) fn keep_state(&mut self) -> Result<(), RunError> {
        if !std::mem::take(&mut self.state_changed) {
            return Ok(());
        }
        let Some(path) = &self.config.state else { return Ok(()) };
        let mut nodes = start::fresh_nodes(&self.config);
        for (index, node) in nodes.iter_mut().enumerate() {
            node.offline = self.engine.offline(node_id(index));
            node.zones = zones::kept(self.engine.zones(node_id(index)));
            node.retired = self.engine.retired(node_id(index));
            node.online = self.began_with[index];
        }
        let present = self.members.iter().map(|(id, member)| state::MemberState {
            member: *id,
            image: member.image,
            pid: member.pid,
            started: member.started,
        });
        let state = State {
            format: state::FORMAT,
            boot: process::boot_id().unwrap_or_default(),
            nodes,
            next_member: self.next_member,
            next_image: self.engine.next_image().0,
            members: present.chain(self.awaited.iter().copied()).collect(),
            devices: self.device_states(),
        };
        Ok(state::save(path, &state)?)
    }

    /// Those that are awaited and have died will not come.
    pub(super) fn look_for_awaited(&mut self) {
        let (alive, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.awaited).into_iter().partition(|member| member.is_alive());
        self.awaited = alive;
        for gone in gone {
            self.tell_engine(engine::Input::AwaitedGone { member: gone.member });
            self.settle(gone.image, gone.member, Vec::new());
            self.state_changed = true;
        }
    }
}

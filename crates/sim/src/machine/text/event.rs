//! What operators, devices and links do, and when.

use memtide_units::OnlineZone;
use serde::Deserialize;
use toml::Spanned;

use super::{
    name::{Names, find, wrong},
    value::{Blocks, Time},
};
use crate::{
    machine::{
        plan::{Event, Happening, SECOND},
        topology::Width,
    },
    scenario::Wrong,
};

/// One event: a time, what is done, and what that needs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EventText {
    at: Time,
    #[serde(rename = "do")]
    what: DoText,
    node: Option<Spanned<String>>,
    link: Option<Spanned<String>>,
    program: Option<Spanned<String>>,
    size: Option<Blocks>,
    deadline: Option<Time>,
    percent: Option<u32>,
    pageblock: Option<u64>,
    zone: Option<OnlineZone>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum DoText {
    GiveBack,
    Add,
    Evacuate,
    MoveTo,
    SetLink,
    LoseLink,
    Remove,
    Poison,
}

impl EventText {
    pub(super) fn event(&self, at: usize, names: &Names) -> Result<Event, Wrong> {
        let need = |key: &str| wrong(at, format!("an event without {key:?}; expected one"));
        let node = || {
            let name = self.node.as_ref().ok_or_else(|| need("node"))?;
            find(&names.nodes, "node", name)
        };
        let link = || {
            let name = self.link.as_ref().ok_or_else(|| need("link"))?;
            find(&names.links, "link", name)
        };
        let size = || match self.size {
            Some(Blocks(size)) if size > 0 => Ok(size),
            _ => Err(need("size")),
        };
        let deadline = self.deadline.map_or(5 * SECOND, |time| time.0);
        let what = match self.what {
            DoText::GiveBack => {
                let from = self.node.as_ref().map(|name| find(&names.nodes, "node", name));
                Happening::GiveBack { pageblocks: size()?, from: from.transpose()?, deadline }
            }
            DoText::Add => Happening::Add { pageblocks: size()?, to: node()?, zone: self.zone },
            DoText::Evacuate => Happening::Evacuate { node: node()?, deadline },
            DoText::MoveTo => {
                let name = self.program.as_ref().ok_or_else(|| need("program"))?;
                let program = find(&names.programs, "program", name)?;
                Happening::MoveTo { program, to: node()?, deadline }
            }
            DoText::SetLink => match self.percent {
                Some(percent @ 1..=100) => {
                    Happening::Link { link: link()?, width: Width::Percent(percent) }
                }
                _ => return Err(wrong(at, "set-link; expected a \"percent\" of 1 to 100")),
            },
            DoText::LoseLink => Happening::Link { link: link()?, width: Width::Lost },
            DoText::Remove => Happening::Remove { node: node()? },
            DoText::Poison => {
                let pageblock = self.pageblock.ok_or_else(|| need("pageblock"))?;
                Happening::Poison { node: node()?, pageblock }
            }
        };
        Ok(Event { at: self.at.0, what })
    }
}

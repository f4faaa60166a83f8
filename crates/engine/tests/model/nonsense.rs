//! What nobody well-behaved would say.

use super::*;

impl World {
    /// An input that nobody well-behaved would send, to a copy: it is refused and changes
    /// nothing, or it is by chance a good one and breaks nothing.
    pub(super) fn nonsense(&mut self, kind: u8, a: u8, b: u8, extents: &[(u16, u8)]) {
        let mut copy = self.engine.clone();
        let input = nonsense(kind, a, b, extents);
        match copy.handle(self.now.after(Duration::from_millis(b.into())), input.clone()) {
            Ok(_) => copy.validate(),
            Err(_) => assert!(copy == self.engine, "{input:?} was refused and changed something"),
        }
    }
}

/// An input made of anything.
fn nonsense(kind: u8, a: u8, b: u8, extents: &[(u16, u8)]) -> Input {
    let member = MemberId(u64::from(a % 24));
    let token = TokenId(u64::from(b % 24));
    let image = ImageId(u64::from(b % 6));
    let extent = |&(start, count): &(u16, u8)| {
        let start = if start > 1100 { u64::MAX - u64::from(start) } else { u64::from(start) };
        Extent::new(Pageblock(start), u32::from(count) * if count > 200 { 1 << 24 } else { 1 })
    };
    let extents: Vec<_> = extents.iter().map(extent).collect();
    let reason = HoldReason::ALL[usize::from(b) % HoldReason::ALL.len()];
    let request = RequestId(u64::from(b));
    let deadline = Duration::MAX;
    let bytes = ByteSize([0, 1, u64::MAX, 64 << 20][usize::from(b % 4)]);
    match kind % 18 {
        0 => Input::Left { member },
        1 => Input::TokenGone { token },
        2 => Input::Commit { member, by: [i64::MAX, i64::MIN, 1 << 40, 3][usize::from(b % 4)] },
        3 => Input::Lease {
            member,
            count: if b < 8 { 0 } else { u32::MAX },
            after: None,
            policy: None,
        },
        4 => Input::Lease {
            member,
            count: 1,
            after: extents.first().map(|extent| extent.start),
            policy: None,
        },
        5 => Input::Release { member, extents },
        6 => Input::Pin { member, extents, reason },
        7 => Input::Unpin { member, extents, reason },
        8 => Input::ForkBegin { member, token },
        9 => {
            let outcomes = vec![MoveOutcome::Moved; extents.len() * 3];
            Input::Moved { member, id: MoveId(b.into()), outcomes }
        }
        10 => Input::Thawed { member, extents },
        11 => Input::Zeroed { image, extents },
        12 => Input::GiveBack { request, bytes, from: Some(NodeId(u16::from(a % 9))), deadline },
        13 => Input::GiveBack { request, bytes, from: None, deadline },
        14 => {
            let zone = OnlineZone::ALL.get(usize::from(a / 9 % 6)).copied();
            Input::Add { bytes, to: NodeId(u16::from(a % 9)), zone }
        }
        15 => Input::MoveTo { request, member, to: NodeId(1), bytes: Some(bytes), deadline },
        16 => Input::AwaitedGone { member },
        _ => {
            let half = extents.len() / 2;
            let claims = Claims {
                member,
                image,
                leased: extents[..half].to_vec(),
                shared: extents[half..].to_vec(),
                children: vec![TokenId(u64::from(a)), TokenId(u64::from(b))],
                committed: u64::MAX,
            };
            let lineage = match a % 3 {
                0 => Lineage::Fresh,
                1 => Lineage::Child(TokenId(u64::from(a % 24))),
                _ => Lineage::Returning(claims),
            };
            Input::Join {
                member,
                pid: 1,
                name: String::new(),
                token,
                lineage,
                who: Default::default(),
            }
        }
    }
}

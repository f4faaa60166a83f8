//! The operations, and how they are read from numbers.

use memtide_frames::{Channel, Movability, Order, Request, Urgency, Want, Zone};

/// Who does it: a core, or nobody in particular.
pub type By = Option<u8>;

/// A frame, named in a way that hits something whatever the state of the node.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// So many 65536ths into the node.
    At(u16),
    /// So many frames after the start of something that is held.
    Near(u16, i8),
    /// Not of the node.
    Outside(u8),
}

/// An operation with all its parameters. Any combination is allowed, nonsense included.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Takes a block, or so many until one is refused.
    Take { by: By, request: Request, times: u16 },
    /// Gives back something that is held; or every `step`th, so many times.
    Give { by: By, pick: u16, step: u8, times: u16 },
    /// Drops something that is held.
    Drop { pick: u16 },
    /// Holds something by its number from now on.
    IntoNumber { pick: u16 },
    /// Turns a number into a frame, rightly or not.
    Adopt { place: Place, order: Order },
    /// Gives a number back, rightly or not.
    GiveNumber { core: u8, place: Place, order: Order },
    /// Gives this core a frame of another node.
    GiveForeign { by: By },
    /// Takes what is named.
    TakeAt { place: Place, order: Order, movability: Movability },
    /// Takes single frames at equal distances, to scatter what is taken.
    Scatter { place: Place, distance: u16, times: u16, movability: Movability },
    /// Takes a range.
    TakeRange { place: Place, frames: u32, movability: Movability },
    /// Makes blocks of a range that is held.
    IntoFrames { pick: u16, keep: u8 },
    /// Splits a block.
    Split { pick: u16 },
    /// Merges a block with its buddy, if that is held.
    Merge { pick: u16 },
    /// Merges any two.
    MergeAny { pick: u16, other: u16 },
    /// A core gives back what it caches.
    Drain { core: u8 },
    /// A core is given up, if it is in use.
    Close { core: u8 },
    /// A core is taken into use.
    Open { core: u8, limit: u8 },
    /// Blocks are added.
    Add { units: Units, zone: Zone },
    /// Pageblocks or blocks are isolated.
    Isolate { units: Units },
    /// The same in reverse.
    Unisolate { units: Units },
    /// Isolated blocks are removed.
    Remove { units: Units },
    /// A frame is taken out of service.
    Retire { place: Place },
    /// Frames are declared a hole.
    Exclude { place: Place, frames: u16 },
    /// The watermarks of a zone are set.
    SetWatermarks { zone: Zone, min: u16, low: u16, high: u16 },
    /// A core's crossings are asked for.
    Crossing { core: u8 },
    /// Room is reserved; others take; and some of it is acquired, the rest forfeited.
    Reserve { request: Request, count: u8, others: u16 },
    /// All cores are drained.
    Settle,
}

/// Pageblocks or blocks, named in a way that mostly makes sense.
#[derive(Clone, Copy, Debug)]
pub enum Units {
    /// So many blocks from this one on.
    Blocks(u16, u8),
    /// So many pageblocks from this one on.
    Pageblocks(u16, u8),
    /// Anything.
    Frames(Place, u16),
}

fn by(n: u16) -> By {
    (n % 4).checked_sub(1).map(|core| core as u8)
}

fn order(n: u16) -> Order {
    // Small orders and a pageblock's are the most common.
    const ORDERS: [u8; 32] = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 9, 9, 9, 10, 11, 12, 13, 14, 15,
        16, 17, 18, 18,
    ];
    Order::new(ORDERS[usize::from(n % 32)]).unwrap()
}

fn movability(n: u16) -> Movability {
    [Movability::Movable, Movability::Unmovable, Movability::Movable, Movability::Reclaimable]
        [usize::from(n % 4)]
}

/// One of the zones; some more often than others.
pub fn zone(n: u16) -> Zone {
    let channel = |n| Zone::Exmem(Channel::new(n).unwrap());
    match n % 16 {
        0..4 => Zone::Normal,
        4..7 => Zone::Movable,
        7..10 => Zone::PreferMovable,
        10 => Zone::Device,
        11..14 => channel(0),
        14 => channel(1),
        _ => channel(7),
    }
}

fn place(n: u16, m: u16) -> Place {
    match m % 16 {
        0..6 => Place::Near(n, 0),
        6..9 => Place::Near(n, (m >> 8) as i8),
        9..15 => Place::At(n),
        _ => Place::Outside((m >> 8) as u8),
    }
}

fn units(n: u16, m: u16) -> Units {
    match m % 8 {
        0..4 => Units::Blocks(n, (m >> 3) as u8 % 4 / 3 + 1),
        4..7 => Units::Pageblocks(n, (m >> 3) as u8 % 8 / 5 + 1),
        _ => Units::Frames(place(n, m >> 3), n.rotate_left(7)),
    }
}

fn request(n: u16) -> Request {
    let want = [Want::Any, Want::Any, Want::Normal, Want::Exmem][usize::from(n >> 8 & 3)];
    let request = Request::new(order(n), movability(n >> 6)).from(want);
    if n >> 10 & 7 == 0 { Request { urgency: Urgency::Emergency, ..request } } else { request }
}

impl Op {
    /// The operation of a record. Every record is one.
    pub fn of([kind, a, b, c]: [u16; 4]) -> Self {
        let times = match c % 8 {
            0..4 => 1,
            4..7 => c >> 3 & 63,
            _ => 2000,
        };
        match kind % 100 {
            0..26 => Self::Take { by: by(kind >> 8), request: request(a), times },
            26..38 => Self::Give { by: by(kind >> 8), pick: a, step: b as u8, times },
            38..40 => Self::Drop { pick: a },
            40..44 => Self::IntoNumber { pick: a },
            44..47 => Self::Adopt { place: place(a, b), order: order(c) },
            47..51 => {
                Self::GiveNumber { core: (kind >> 8) as u8, place: place(a, b), order: order(c) }
            }
            51 => Self::GiveForeign { by: by(kind >> 8) },
            52..56 => {
                Self::TakeAt { place: place(a, b), order: order(c), movability: movability(c >> 6) }
            }
            56..59 => {
                let frames = u32::from(c) >> (b >> 12);
                let frames = if c % 8 == 0 { frames << 4 & !511 } else { frames };
                Self::TakeRange { place: place(a, b), frames, movability: movability(c >> 3) }
            }
            59 => Self::IntoFrames { pick: a, keep: b as u8 },
            60..63 => Self::Split { pick: a },
            63..66 => Self::Merge { pick: a },
            66 => Self::MergeAny { pick: a, other: b },
            67..69 => Self::Drain { core: a as u8 },
            69 => Self::Close { core: a as u8 },
            70..73 => {
                Self::Open { core: a as u8, limit: [0, 1, 7, 64, 64, 200][usize::from(b % 6)] }
            }
            73..77 => Self::Add { units: units(a, b), zone: zone(c) },
            77..80 => Self::Isolate { units: units(a, b) },
            80..82 => Self::Unisolate { units: units(a, b) },
            82..86 => Self::Remove { units: units(a, b) },
            86..89 => Self::Retire { place: place(a, b) },
            89 => Self::Exclude { place: place(a, b), frames: c >> (b >> 12) },
            90..92 => Self::SetWatermarks {
                zone: zone(a),
                min: b % 2048,
                low: b % 2048 + (c & 255),
                high: if c % 8 == 0 { c } else { b % 2048 + (c & 255) + (c >> 8) },
            },
            92..95 => Self::Crossing { core: a as u8 },
            95..97 => Self::Reserve {
                request: request(a),
                count: if b % 4 == 0 { 1 } else { (b >> 8) as u8 },
                others: c % 1024,
            },
            _ => Self::Settle,
        }
    }
}

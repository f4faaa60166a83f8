//! Devices, regions, and what was accepted there before.

use super::*;

#[test]
fn what_was_accepted_is_replayed_at_probe_without_a_second_acknowledgement() {
    let mut host = Host::new(Limits::default());
    host.add_device(MEM, config(Splitting::Group)).unwrap();
    let mut test = Test { host, now: at(0) };
    let accepted = vec![
        numbered(4 * GIB, A, 1),
        extent(2 * GIB, GIB, Tag::NULL),
        numbered(0, A, 0),
        extent(PARTITION, GIB, B), // Of another region.
        extent(8 * GIB, MIB, B),   // Good for nothing.
    ];
    let probe = |start| Input::Probe {
        device: MEM,
        decoder: range(start, PARTITION),
        accepted: accepted.clone(),
    };
    let effects = test.say(probe(0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::AddResponse { .. })));
    let expected =
        [(A, vec![range(0, GIB), range(4 * GIB, GIB)]), (Tag::NULL, vec![range(2 * GIB, GIB)])];
    assert_eq!(surfaced(&effects), expected);
    assert_eq!(refused(&effects).len(), 1);
    assert_eq!(surfaced(&test.say(probe(PARTITION))), [(B, vec![range(PARTITION, GIB)])]);
    let totals = test.host.totals(MEM).unwrap();
    assert_eq!((totals.recovered, totals.offered), (u128::from(4 * GIB), 0));
    // They are released as all others are.
    assert_eq!(asked(&test.release(range(0, GIB), A)).len(), 2);
}

#[test]
fn a_region_where_one_is_is_refused() {
    let mut test = Test::new(Splitting::Group);
    let before = test.host.clone();
    let (device, align) = (MEM, 2 * MIB);
    for decoder in [range(GIB, GIB), range(64 * GIB, MIB), range(64 * GIB, 0)] {
        let probe = Input::Probe { device, decoder, accepted: vec![] };
        let refused = test.host.handle(at(9), probe);
        assert_eq!(refused, Err(InputError::Decoder { device, decoder, align }));
        assert_eq!(test.host, before, "a refused input changed nothing");
    }
    let refused = test.host.handle(at(9), Input::Reclaimed { device, free: vec![] });
    assert_eq!(refused, Err(InputError::NotReclaiming { device }));
    let device = DeviceId(9);
    let refused = test.host.handle(at(9), Input::Freed { device });
    assert_eq!(refused, Err(InputError::NoSuchDevice { device }));
}

#[test]
fn extents_are_limited() {
    let limits = Limits { extents_max: 2, ..Limits::default() };
    let mut host = Host::new(limits);
    host.add_device(MEM, config(Splitting::Group)).unwrap();
    let mut test = Test { host, now: at(0) };
    let decoder = range(0, PARTITION);
    let three: Vec<DcExtent> = (0..3).map(|n| extent(n * GIB, GIB, Tag::NULL)).collect();
    let effects = test.say(Input::Probe { device: MEM, decoder, accepted: three });
    assert_eq!((surfaced(&effects).len(), refused(&effects).len()), (2, 1));
    let effects = test.chain(&[extent(4 * GIB, GIB, A)]);
    let why = Refused::TooManyExtents { extents: 3, extents_max: 2 };
    assert_eq!(refused(&effects), [(range(4 * GIB, GIB), why)]);
}

#[test]
fn a_device_that_makes_no_sense_is_refused() {
    let good = config(Splitting::Group);
    good.check().unwrap();
    let with = |change: fn(&mut DeviceConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config.check().unwrap_err()
    };
    for (error, word) in [
        (with(|config| config.partitions.clear()), "1 to 8"),
        (with(|config| config.align = MIB), "align"),
        (with(|config| config.align = 3 * MIB), "align"),
        (with(|config| config.partitions[0].range.start = 128 * MIB), "0x10000000"),
        (with(|config| config.partitions[1].range.length = u64::MAX), "2^64"),
        (with(|config| config.partitions[0].length = 0), "blocks"),
        (with(|config| config.partitions[0].length = 17 * GIB), "blocks"),
        (with(|config| config.partitions[0].length = MIB), "blocks"),
        (with(|config| config.partitions[0].block_bytes = 3), "power of two"),
        (with(|config| config.partitions.swap(0, 1)), "or more"),
    ] {
        assert!(alloc::format!("{error}").contains(word), "{error}");
    }
    assert!(matches!(with(|c| c.partitions.swap(0, 1)), DeviceError::Order { number: 1, .. }));
}

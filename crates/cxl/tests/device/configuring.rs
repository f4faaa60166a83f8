//! What a device is made as, told as, and configured as: 4800h, 4801h, 5600h to 5603h.

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, Sanitize,
        dynamic_capacity::{GetConfiguration, GetExtentList},
        events::DynamicCapacityEventKind,
        fabric_manager::{GetHostConfiguration, GetHostExtents, SetConfiguration},
    },
    device::{
        CAPACITY_UNIT, Config, ConfigError, Device, HOSTS_MAX, Refusal, SanitizeControl, Sharing,
    },
};
use memtide_units::Tag;

use crate::bed::*;

fn why_not(change: impl FnOnce(&mut Config)) -> ConfigError {
    let mut config = config();
    change(&mut config);
    Device::new(config).unwrap_err()
}

#[test]
fn a_device_has_1_to_255_hosts() {
    for hosts in [0, 256, u16::MAX] {
        assert_eq!(why_not(|config| config.hosts = hosts), ConfigError::Hosts { hosts });
    }
    let device = Device::new(Config { hosts: HOSTS_MAX, ..config() }).unwrap();
    assert_eq!((device.info().hosts, device.hosts().last()), (255, Some(HostId(254))));
}

#[test]
fn a_device_has_1_to_8_regions() {
    assert_eq!(why_not(|config| config.regions.clear()), ConfigError::Regions { regions: 0 });
    let nine = |config: &mut Config| config.regions = vec![config.regions[0]; 9];
    assert_eq!(why_not(nine), ConfigError::Regions { regions: 9 });
}

#[test]
fn regions_lie_in_the_order_of_their_addresses() {
    let swap = |config: &mut Config| config.regions.swap(0, 1);
    let expected = ConfigError::Order { region: 1, base: OWN, end: SHARED + CAPACITY_UNIT };
    assert_eq!(why_not(swap), expected);
    let overlap = |config: &mut Config| config.regions[0].decode_length = 3 * CAPACITY_UNIT;
    assert!(matches!(why_not(overlap), ConfigError::Order { region: 1, .. }));
}

#[test]
fn a_regions_numbers_are_checked() {
    type Change = fn(&mut memtide_cxl::device::RegionConfig);
    let cases: [(&str, Change); 16] = [
        ("base", |region| region.base += BLOCK),
        ("decode length", |region| region.decode_length = 0),
        ("decode length", |region| region.decode_length += BLOCK),
        ("decode length", |region| region.base = 0u64.wrapping_sub(CAPACITY_UNIT)),
        ("decode length", |region| region.decode_length = u64::MAX - CAPACITY_UNIT + 1),
        ("block sizes", |region| region.block_sizes |= 1 << 5),
        ("block sizes", |region| region.block_sizes |= 1 << 52),
        ("block size", |region| region.block_size = 0),
        ("block size", |region| region.block_size = 3 * BLOCK),
        ("block size", |region| region.block_size = 4 * BLOCK),
        ("block size", |region| region.block_sizes = 0),
        ("length", |region| region.length = 0),
        ("length", |region| region.length = CAPACITY_UNIT + 2 * BLOCK),
        ("block sizes", |region| region.length += BLOCK),
        ("block sizes", |region| region.length += 64),
        ("block sizes", |region| region.block_sizes |= 512 * MIB),
    ];
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let why = why_not(|config| change(&mut config.regions[0]));
        let ConfigError::Region { region, field, .. } = why else { panic!("{number}: {why}") };
        assert_eq!((region, field), (0, expected), "{number}: {why}");
    }
}

#[test]
fn the_capacity_is_no_more_than_there_are_addresses_for() {
    for capacity in [0, BLOCK, CAPACITY_UNIT + 64, 2 * CAPACITY_UNIT] {
        let why = why_not(|config| config.total_capacity = capacity);
        assert_eq!(why, ConfigError::Capacity { capacity, most: CAPACITY_UNIT });
    }
}

#[test]
fn limits_allow_something() {
    type Change = fn(&mut memtide_cxl::device::Limits);
    let cases: [(&str, Change); 8] = [
        ("extents", |limits| limits.extents = 0),
        ("tags", |limits| limits.tags = 0),
        ("event records", |limits| limits.event_records = 0),
        ("event records", |limits| limits.event_records = u16::MAX),
        ("payload bytes", |limits| limits.payload_bytes = 0),
        ("payload bytes", |limits| limits.payload_bytes = 128),
        ("payload bytes", |limits| limits.payload_bytes = 1000),
        ("payload bytes", |limits| limits.payload_bytes = 2 << 20),
    ];
    for (expected, change) in cases {
        let why = why_not(|config| change(&mut config.limits));
        assert!(matches!(why, ConfigError::Limit { field, .. } if field == expected), "{why}");
    }
}

#[test]
fn a_host_is_told_its_regions_in_pages() {
    let bed = Bed::new();
    let page = |start, count| bed.device.configuration(H0, &GetConfiguration { start, count });
    let all = page(0, 8).unwrap();
    assert_eq!((all.available, all.regions.len()), (2, 2));
    let region = all.regions[1];
    assert_eq!((region.base, region.decode_length), (SHARED, CAPACITY_UNIT));
    assert_eq!((region.length, region.block_size), (64 * BLOCK, BLOCK));
    assert_eq!((region.dsmad_handle, region.sanitize), (7, Sanitize::OnRelease));
    assert_eq!(page(1, 8).unwrap().regions, [region]);
    assert_eq!(page(0, 1).unwrap().regions, all.regions[..1]);
    assert_eq!(page(0, 0).unwrap().regions, []);
    for start in [2, 255] {
        let expected = Refusal::Region { region: start, regions: 2 };
        assert_eq!(refused(page(start, 1)), (expected, ReturnCode::INVALID_INPUT));
    }
    let nobody = bed.device.configuration(NOBODY, &GetConfiguration { start: 0, count: 1 });
    assert_eq!(code(nobody), ReturnCode::INVALID_INPUT);
}

#[test]
fn the_manager_is_told_what_the_device_can_do() {
    let bed = Bed::new();
    let info = bed.device.info();
    assert_eq!((info.hosts, info.regions), (3, 2));
    assert_eq!((info.add_policies, info.release_policies), (0b111, 0b11));
    assert_eq!(info.sanitize_configurable, 0b01);
    assert_eq!(info.total_capacity, CAPACITY_UNIT);
    assert_eq!(info.block_sizes, [6 << 20, 6 << 20, 0, 0, 0, 0, 0, 0]);
    let mut config = config();
    config.regions[0].sanitize_control = SanitizeControl::Fixed;
    config.regions[1].sanitize_control = SanitizeControl::Configurable;
    assert_eq!(Device::new(config).unwrap().info().sanitize_configurable, 0b10);
}

#[test]
fn the_manager_is_told_a_hosts_regions() {
    let bed = Bed::new();
    let page = |host, start, count| {
        bed.device.host_configuration(&GetHostConfiguration { host, start, count })
    };
    let all = page(H1, 0, 9).unwrap();
    let flags: Vec<u8> = all.regions.iter().map(|region| region.dsmas_flags).collect();
    assert_eq!((all.host, all.available, flags), (H1, 2, vec![0x20, 0x28]));
    assert_eq!((all.resources.extents_supported, all.resources.tags_supported), (8, 4));
    assert_eq!(page(H1, 1, 1).unwrap().regions, all.regions[1..]);
    assert_eq!(code(page(H1, 2, 1)), ReturnCode::INVALID_INPUT);
    assert_eq!(code(page(NOBODY, 0, 1)), ReturnCode::INVALID_INPUT);
}

#[test]
fn extent_lists_come_in_pages_with_a_number_that_changes() {
    let mut bed = Bed::new();
    let list: Vec<_> = (0..5).map(|n| extent(own(4 * n, 2), Tag::NULL, 0)).collect();
    let empty = bed.generation(H0);
    bed.give(H0, &list);
    let host = |start, count| bed.device.extent_list(H0, &GetExtentList { start, count });
    let manager = |start, count| {
        bed.device.host_extents(&GetHostExtents { host: H0, start, count }).map(|page| {
            assert_eq!((page.host, page.start), (H0, start));
            (page.total, page.generation, page.extents)
        })
    };
    let (total, generation) = (5, bed.generation(H0));
    assert_ne!(generation, empty);
    for (start, count, expected) in
        [(0, 9, &list[..]), (1, 3, &list[1..4]), (4, 2, &list[4..]), (5, 9, &[]), (2, 0, &[])]
    {
        let page = host(start, count).unwrap();
        assert_eq!((page.total, page.generation, &page.extents[..]), (total, generation, expected));
        assert_eq!(manager(start, count).unwrap(), (total, generation, expected.to_vec()));
    }
    let expected = (Refusal::Start { start: 6, total: 5 }, ReturnCode::INVALID_INPUT);
    assert_eq!(refused(host(6, 1)), expected);
    assert_eq!(refused(manager(6, 1)), expected);
    assert_eq!(code(host(u32::MAX, u32::MAX)), ReturnCode::INVALID_INPUT);
    let nobody = bed.device.host_extents(&GetHostExtents { host: NOBODY, start: 0, count: 1 });
    assert_eq!(code(nobody), ReturnCode::INVALID_INPUT);
}

#[test]
fn a_page_is_no_larger_than_a_payload() {
    let mut bed = Bed::with(|limits| limits.payload_bytes = 256);
    let list: Vec<_> = (0..6).map(|n| extent(own(4 * n, 1), Tag([n as u8 + 1; 16]), 0)).collect();
    bed.give(H0, &list[..4]);
    bed.give(H1, &list[4..]);
    let page = bed.device.extent_list(H0, &GetExtentList { start: 0, count: 9 }).unwrap();
    assert_eq!((page.total, page.extents.len()), (4, 4));
    bed.give(H0, &plain(&[own(40, 1), own(42, 1), own(44, 1)]));
    let page = bed.device.extent_list(H0, &GetExtentList { start: 0, count: 9 }).unwrap();
    assert_eq!((page.total, page.extents.len()), (7, 6), "16 + 6 * 40 bytes");
    let request = memtide_cxl::command::fabric_manager::ListTags { start: 0, count: 9 };
    let tags = bed.device.list_tags(&request).unwrap();
    assert_eq!((tags.total, tags.tags.len()), (6, 2), "16 + 2 * 84 bytes");
}

fn configure(
    bed: &mut Bed,
    region: u8,
    block_size: u64,
    sanitize: Sanitize,
) -> Result<(), Refusal> {
    bed.step(|device| device.set_configuration(&SetConfiguration { region, block_size, sanitize }))
}

#[test]
fn a_region_is_configured_for_all_hosts_and_all_are_told() {
    let mut bed = Bed::new();
    configure(&mut bed, 0, 2 * BLOCK, Sanitize::OnRelease).unwrap();
    for host in [H0, H1, H2] {
        let [event] = bed.take_all(Some(host))[..] else { panic!("one event") };
        assert_eq!(event.kind, DynamicCapacityEventKind::RegionConfigurationUpdated);
        assert_eq!(event.region, 0);
        let request = GetConfiguration { start: 0, count: 1 };
        let region = bed.device.configuration(host, &request).unwrap().regions[0];
        assert_eq!((region.block_size, region.sanitize), (2 * BLOCK, Sanitize::OnRelease));
    }
    assert_eq!(bed.take_all(None), []);
    assert_eq!(code(bed.add(&wish(H0, 0, BLOCK, A))), ReturnCode::INVALID_INPUT);
    bed.add(&wish(H0, 0, 2 * BLOCK, A)).unwrap();
}

#[test]
fn a_region_in_use_is_not_configured() {
    let expected = |region| (Refusal::RegionInUse { region }, ReturnCode::UNSUPPORTED);
    let mut bed = Bed::new();
    bed.add(&wish(H0, 0, BLOCK, A)).unwrap();
    let done = configure(&mut bed, 0, 2 * BLOCK, Sanitize::Never);
    assert_eq!(refused(done), expected(0));
    bed.accept(H0, &[own(0, 1)]).unwrap();
    assert_eq!(refused(configure(&mut bed, 0, BLOCK, Sanitize::Never)), expected(0));
    bed.release(H0, &[own(0, 1)]).unwrap();
    configure(&mut bed, 0, 2 * BLOCK, Sanitize::Never).unwrap();

    bed.give(H0, &[extent(shared(0, 1), A, 0)]);
    bed.release(H0, &[shared(0, 1)]).unwrap();
    let done = configure(&mut bed, 1, 2 * BLOCK, Sanitize::OnRelease);
    assert_eq!(refused(done), expected(1), "it is being overwritten");
    bed.device.sanitized(shared(0, 1)).unwrap();
    configure(&mut bed, 1, 2 * BLOCK, Sanitize::OnRelease).unwrap();
}

#[test]
fn a_block_size_that_a_region_cannot_have_is_invalid_input() {
    let mut bed = Bed::new();
    for block_size in [0, 64, BLOCK / 2, 3 * BLOCK, 4 * BLOCK, 1 << 63, u64::MAX] {
        let why = refused(configure(&mut bed, 0, block_size, Sanitize::Never));
        let expected = Refusal::BlockSize { block_size, block_sizes: 3 * BLOCK };
        assert_eq!(why, (expected, ReturnCode::INVALID_INPUT));
    }
    for region in [2, 255] {
        let done = configure(&mut bed, region, BLOCK, Sanitize::Never);
        assert_eq!(code(done), ReturnCode::INVALID_INPUT);
    }
}

#[test]
fn sanitizing_that_cannot_be_configured_is_unsupported() {
    let mut bed = Bed::new();
    let why = refused(configure(&mut bed, 1, BLOCK, Sanitize::Never));
    assert_eq!(why, (Refusal::SanitizeFixed { region: 1 }, ReturnCode::UNSUPPORTED));
    configure(&mut bed, 1, 2 * BLOCK, Sanitize::OnRelease).unwrap();
}

#[test]
fn a_host_whose_log_is_full_puts_configuring_off() {
    let mut bed = Bed::with(|limits| limits.event_records = 1);
    configure(&mut bed, 0, BLOCK, Sanitize::Never).unwrap();
    let done = configure(&mut bed, 0, BLOCK, Sanitize::Never);
    assert_eq!(code(done), ReturnCode::RETRY_REQUIRED);
    bed.forget();
    configure(&mut bed, 0, BLOCK, Sanitize::Never).unwrap();
}

#[test]
fn a_device_says_who_it_is() {
    let device = Bed::new().device;
    assert_eq!((device.serial(), device.limits().extents), (42, 8));
    assert_eq!(config().regions[1].sharing, Sharing::Sharable);
}

//! Translations that CXL's own people have checked: the vectors of the kernel's cxl_translate
//! test, as ndctl's test/cxl-translate.sh feeds it; most are of Intel's CXL Memory Device Software
//! Guide. They have regions at address 0, a granularity of 256, and these maps.

use memtide_physmap::interleave::{Granularity, Interleave, Place, RootDecoder, Route, Ways};
use memtide_units::{PhysAddr, PhysRange};

const MAPS: [u64; 4] = [0x202_0900, 0x404_1200, 0x101_0400, 0x800];

fn deal(ways: u64, granularity: u64) -> Interleave {
    Interleave::new(Ways::new(ways).unwrap(), Granularity::new(granularity).unwrap())
}

enum Math {
    Modulo,
    Xor,
}

/// A region of `ways` over `bridges` host bridges, and as many ports of each as it takes.
fn route(ways: u64, bridges: u64, math: Math) -> Route {
    let all = PhysRange::new(PhysAddr(0), PhysAddr(u64::MAX)).unwrap();
    let root = match math {
        Math::Modulo => RootDecoder::modulo(all, deal(bridges, 256)),
        Math::Xor => RootDecoder::xor(all, deal(bridges, 256), MAPS).unwrap(),
    };
    let port = (ways > bridges).then(|| deal(ways / bridges, 256 * bridges));
    Route::new(root, all, port.as_slice(), deal(ways, 256)).unwrap()
}

fn agree(route: &Route, position: u8, offset: u64, address: u64) {
    let place = Place { position, offset };
    assert_eq!(route.address(place), Ok(PhysAddr(address)), "{place:?}");
    assert_eq!(route.locate(PhysAddr(address)), Ok(place), "{address}");
}

#[test]
fn sample_4r_4h() {
    let (modulo, xor) = (route(4, 4, Math::Modulo), route(4, 4, Math::Xor));
    for (device, addresses) in
        [(0, [0, 256, 512, 768]), (256, [1024, 1280, 1536, 1792]), (2048, [8192, 8448, 8704, 8960])]
    {
        for (position, address) in addresses.into_iter().enumerate() {
            agree(&modulo, position as u8, device, address);
            agree(&xor, position as u8, device, address);
        }
    }
}

#[test]
fn sample_12r_12h() {
    let (modulo, xor) = (route(12, 12, Math::Modulo), route(12, 12, Math::Xor));
    let in_turn = |first: u64| (0..12).map(move |n| first + 256 * n);
    for (device, first) in [(0, 0), (512, 6144)] {
        for (position, address) in in_turn(first).enumerate() {
            agree(&modulo, position as u8, device, address);
        }
    }
    let xor_0 = [0, 256, 512, 768, 1024, 1280, 1536, 1792, 2304, 2048, 2816, 2560];
    let xor_512 = [6912, 6656, 6400, 6144, 7936, 7680, 7424, 7168, 8192, 8448, 8704, 8960];
    for (device, addresses) in [(0, xor_0), (512, xor_512)] {
        for (position, address) in addresses.into_iter().enumerate() {
            agree(&xor, position as u8, device, address);
        }
    }
}

#[test]
fn xor_table_4r_4h() {
    let route = route(4, 4, Math::Xor);
    for (device, position, address) in [
        (248, 0, 248),
        (16, 1, 272),
        (16, 2, 528),
        (32, 3, 800),
        (288, 0, 1056),
        (288, 1, 1312),
        (288, 2, 1568),
        (288, 3, 1824),
        (544, 1, 2080),
        (544, 0, 2336),
        (544, 3, 2592),
        (1040, 2, 4112),
        (1568, 3, 6176),
        (32784, 1, 131_088),
        (65552, 2, 262_160),
        (98336, 3, 393_248),
        (98328, 2, 393_496),
        (98352, 2, 393_520),
        (443_953_523, 0, 1_775_813_747),
    ] {
        agree(&route, position, device, address);
    }
}

#[test]
fn xor_table_8r_4h() {
    let route = route(8, 4, Math::Xor);
    for (device, position, address) in [
        (248, 0, 248),
        (16, 1, 272),
        (16, 2, 528),
        (32, 3, 800),
        (272, 1, 2064),
        (528, 2, 4112),
        (800, 3, 6176),
        (16400, 1, 131_088),
        (32784, 2, 262_160),
        (49184, 3, 393_248),
        (49176, 2, 393_496),
        (49200, 2, 393_520),
        (116_520_373, 3, 932_162_229),
        (244_690_459, 5, 1_957_525_275),
        (292_862_215, 5, 2_342_899_463),
        (30_721_158, 4, 245_769_350),
        (246_386_959, 4, 1_971_096_847),
        (72_701_249, 5, 581_610_561),
        (529_382_429, 5, 4_235_060_509),
        (191_132_300, 2, 1_529_057_420),
        (18_589_081, 1, 148_712_089),
        (344_295_715, 7, 2_754_367_011),
    ] {
        agree(&route, position, device, address);
        let targets: Vec<u8> = route.targets(position).unwrap().collect();
        assert_eq!(targets, [position % 4, position / 4]);
    }
}

#[test]
fn xor_table_12r_12h() {
    let route = route(12, 12, Math::Xor);
    for (device, position, address) in [
        (224, 0, 224),
        (16, 1, 272),
        (16, 2, 528),
        (32, 3, 800),
        (32, 4, 1056),
        (32, 5, 1312),
        (32, 6, 1568),
        (32, 7, 1824),
        (32, 9, 2080),
        (32, 8, 2336),
        (32, 11, 2592),
        (32, 10, 2848),
        (288, 0, 3360),
        (299_017_087, 7, 3_588_205_439),
        (329_210_435, 0, 3_950_524_995),
        (151_050_637, 11, 1_812_608_653),
        (145_169_214, 2, 1_742_030_654),
        (328_998_732, 10, 3_947_985_996),
        (159_252_439, 3, 1_911_027_415),
        (342_098_916, 5, 4_105_186_020),
        (97_970_344, 8, 1_175_645_096),
        (214_995_572, 8, 2_579_948_404),
        (101_289_661, 7, 1_215_475_645),
        (40_424_079, 7, 485_088_911),
        (231_458_716, 7, 2_777_503_900),
    ] {
        agree(&route, position, device, address);
    }
}

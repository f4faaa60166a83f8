//! Random operations on nodes of all shapes, compared with a plain model after each.
//!
//! `PROPTEST_CASES` sets how many cases; `MEMTIDE_TRACE=1` prints the operations of each failing
//! case.

use proptest::{collection::vec, prelude::*};

mod common;

/// So many cases, unless the environment says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

proptest! {
    #![proptest_config(cases(1200))]

    /// Of 4 to 16 pageblocks.
    #[test]
    fn small_nodes_agree_with_a_model(
        shape in any::<[u16; 4]>(),
        ops in vec(any::<[u16; 4]>(), 1..120),
    ) {
        let shape = [shape[0] - shape[0] % 16, shape[1], shape[2], shape[3]];
        common::run(&[&[shape][..], &ops].concat());
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Of 1300 pageblocks: blocks of up to 1 GiB.
    #[test]
    fn large_nodes_agree_with_a_model(shape in any::<u16>(), ops in vec(any::<[u16; 4]>(), 1..60)) {
        common::run(&[&[[15, shape, 0, 0]][..], &ops].concat());
    }
}

//! The pager over 4 KiB pages.

mod common;

use memtide_proto::program::Backing;

#[test]
fn writers_lose_nothing_while_their_memory_moves() {
    common::writers_lose_nothing(Backing::Memfd);
}

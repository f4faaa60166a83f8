//! The pager over huge pages.

mod common;

use memtide_proto::program::Backing;

const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

#[test]
fn writers_lose_nothing_while_their_memory_moves() {
    let free = std::fs::read_to_string(FREE).ok().and_then(|text| text.trim().parse().ok());
    if free.unwrap_or(0u64) < 128 {
        memtide_skip::skip("needs 128 free huge pages (sysctl vm.nr_hugepages=512)");
        return;
    }
    common::writers_lose_nothing(Backing::Hugetlb);
}

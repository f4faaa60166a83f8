//! The pager over huge pages.

mod common;

use memtide_proto::program::Backing;

const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

#[test]
fn writers_lose_nothing_while_their_memory_moves() {
    let free = std::fs::read_to_string(FREE).ok().and_then(|text| text.trim().parse().ok());
    if free.unwrap_or(0u64) < 128 {
        assert!(std::env::var_os("MEMTIDE_NO_SKIP").is_none(), "needs 128 free huge pages");
        return eprintln!("SKIPPED: needs 128 free huge pages (sysctl vm.nr_hugepages=512)");
    }
    common::writers_lose_nothing(Backing::Hugetlb);
}

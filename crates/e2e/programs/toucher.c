/* Reservations cost nothing until touched.
 *
 * Reserves --mib MiB (64 GiB unless said) three times: MAP_NORESERVE, PROT_NONE, and by malloc
 * where that gives it; touches a few pages; opens parts of the PROT_NONE range with mprotect. Then
 * says READY and waits for a line on stdin, so that somebody may count what it holds.
 */
#include "victim.h"

#define TOUCHES 24

static void touch(uint8_t *at, size_t bytes, uint64_t seed) {
    for (unsigned i = 0; i < TOUCHES; i++) {
        volatile uint64_t *word = (uint64_t *)(at + next_random(&seed) % (bytes / 8) * 8);
        CHECK(*word == 0, "untouched memory is not zero");
        *word = seed;
    }
}

static void check(uint8_t *at, size_t bytes, uint64_t seed) {
    for (unsigned i = 0; i < TOUCHES; i++) {
        volatile uint64_t *word = (uint64_t *)(at + next_random(&seed) % (bytes / 8) * 8);
        CHECK(*word == seed, "touched word %u is wrong", i);
    }
}

int main(int argc, char **argv) {
    opt_mib = 65536;
    parse_options(argc, argv);
    size_t bytes = opt_mib * MIB;
    uint8_t *sparse = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(sparse != MAP_FAILED, "mmap NORESERVE: %s", strerror(errno));
    uint8_t *closed = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(closed != MAP_FAILED, "mmap PROT_NONE: %s", strerror(errno));
    touch(sparse, bytes, opt_seed);
    uint8_t *opened = closed + bytes / 4 * 3;
    CHECK(mprotect(opened, 4 * MIB, PROT_READ | PROT_WRITE) == 0, "mprotect: %s", strerror(errno));
    touch(opened, 4 * MIB, opt_seed + 7);
    say("READY pid=%d touched=%d", getpid(), 2 * TOUCHES);
    char line[64];
    if (!fgets(line, sizeof line, stdin)) say("no more input");
    check(sparse, bytes, opt_seed);
    check(opened, 4 * MIB, opt_seed + 7);
    CHECK(munmap(sparse, bytes) == 0 && munmap(closed, bytes) == 0, "munmap");
    say("VERDICT PASS");
    return 0;
}

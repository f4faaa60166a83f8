/* Loses memory to a device that takes it back by force, and goes on: every touch of what was lost
 * is SIGBUS, and what it gives up and maps anew is fresh. Line by line on stdin:
 *
 *   fill MIB   map that much in pieces, and fill it
 *   lost       touch all; some of it must be lost; says how many pages
 *   reuse      give up lost pages in every way that there is: what is there then is fresh, and what
 *              was not given up is as lost as before
 *   quit       end
 *
 * Each command is answered by one line "OK ..." or ends the program with VERDICT FAIL.
 */
#include "victim.h"
#include <setjmp.h>

#define PIECES_MAX 512
/* Longer than a block, and not a multiple of it: blocks are shared, and have gaps. */
#define PIECE (5 * MIB + 12 * PAGE)

static uint8_t *pieces[PIECES_MAX];
static unsigned count;

static sigjmp_buf out;

static void on_bus(int signal) {
    (void)signal;
    siglongjmp(out, 1);
}

/* Whether a touch of this page is SIGBUS. */
static bool is_lost(volatile uint8_t *page) {
    if (sigsetjmp(out, 1)) return true;
    page[0] = page[0];
    return false;
}

static unsigned count_lost(uint8_t *at, size_t len) {
    unsigned lost = 0;
    for (size_t i = 0; i < len; i += PAGE) lost += is_lost(at + i);
    return lost;
}

/* Fresh: zero, and writable. */
static void check_fresh(uint8_t *at, size_t len, const char *how) {
    for (size_t i = 0; i < len; i += PAGE) {
        CHECK(!is_lost(at + i), "%s: page %zu of %zu is SIGBUS", how, i / PAGE, len / PAGE);
    }
    long wrong = find_nonzero(at, len);
    CHECK(wrong < 0, "%s: word %ld is not zero", how, wrong);
    memset(at, 0x5a, len);
    CHECK(at[len - 1] == 0x5a, "%s: does not hold", how);
}

/* A piece all of which is lost; none is looked at twice. */
static uint8_t *next_lost(void) {
    while (count > 0) {
        uint8_t *at = pieces[--count];
        if (count_lost(at, PIECE) == PIECE / PAGE) return at;
    }
    FAIL("no piece is lost as a whole any more");
}

static uint8_t *map_at(uint8_t *at, size_t len) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0);
    uint8_t *got = mmap(at, len, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(got != MAP_FAILED && (!at || got == at), "mmap: %s", strerror(errno));
    return got;
}

/* Pages 3 to 9 and 600 to 1200 are given up: they are fresh, their neighbours lost. */
static void give_up_parts(const char *how, void (*give_up)(uint8_t *at, size_t len)) {
    uint8_t *at = next_lost();
    static const struct { size_t first, end; } parts[] = {{3, 9}, {600, 1200}};
    for (unsigned i = 0; i < 2; i++) {
        size_t first = parts[i].first, end = parts[i].end;
        give_up(at + first * PAGE, (end - first) * PAGE);
        CHECK(is_lost(at + (first - 1) * PAGE), "%s: the page before is not lost", how);
        CHECK(is_lost(at + end * PAGE), "%s: the page after is not lost", how);
        check_fresh(at + first * PAGE, (end - first) * PAGE, how);
    }
    /* The rest too: then all is like any other memory. */
    give_up(at, PIECE);
    check_fresh(at, PIECE, how);
    CHECK(munmap(at, PIECE) == 0, "munmap: %s", strerror(errno));
}

static void by_dontneed(uint8_t *at, size_t len) {
    CHECK(madvise(at, len, MADV_DONTNEED) == 0, "MADV_DONTNEED: %s", strerror(errno));
}

static void by_free(uint8_t *at, size_t len) {
    CHECK(madvise(at, len, MADV_FREE) == 0, "MADV_FREE: %s", strerror(errno));
}

static void by_fixed(uint8_t *at, size_t len) { map_at(at, len); }

static void by_unmap(uint8_t *at, size_t len) {
    CHECK(munmap(at, len) == 0, "munmap: %s", strerror(errno));
    map_at(at, len);
}

static void by_shrinking(uint8_t *at, size_t len) {
    /* What is lost in part only is several mappings, as far as mremap goes. */
    size_t whole = len == PIECE ? PAGE : len;
    CHECK(mremap(at, whole, whole / 2 / PAGE * PAGE + PAGE, 0) == at, "mremap: %s", strerror(errno));
    map_at(at, len);
}

/* What changes nothing about content leaves it lost. */
static void keep(void) {
    uint8_t *at = next_lost();
    CHECK(mprotect(at, PIECE, PROT_READ) == 0, "mprotect: %s", strerror(errno));
    CHECK(mprotect(at, PIECE, PROT_READ | PROT_WRITE) == 0, "mprotect: %s", strerror(errno));
    CHECK(madvise(at, PIECE, MADV_WILLNEED) == 0, "MADV_WILLNEED: %s", strerror(errno));
    CHECK(mremap(at, PIECE, 2 * PIECE, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM,
          "what is lost was moved");
    CHECK(count_lost(at, PIECE) == PIECE / PAGE, "what was not given up is not lost any more");
    CHECK(munmap(at, PIECE) == 0, "munmap: %s", strerror(errno));
}

static void reuse(void) {
    give_up_parts("MADV_DONTNEED", by_dontneed);
    give_up_parts("MADV_FREE", by_free);
    give_up_parts("MAP_FIXED", by_fixed);
    give_up_parts("munmap", by_unmap);
    give_up_parts("mremap to less", by_shrinking);
    keep();
    /* At once, before anybody has looked: gaps of lost blocks, and what has just been unmapped. */
    while (count > 0) CHECK(munmap(pieces[--count], PIECE) == 0, "munmap: %s", strerror(errno));
    for (unsigned i = 0; i < 40; i++) {
        size_t len = (i % 5 + 1) * 200 * PAGE;
        check_fresh(map_at(NULL, len), len, "a new mapping");
    }
}

static bool obey(const char *command, uint64_t mib) {
    unsigned lost = 0;
    if (!strcmp(command, "fill")) {
        for (; mib >= PIECE / MIB && count < PIECES_MAX; mib -= PIECE / MIB) {
            pieces[count] = map_at(NULL, PIECE);
            memset(pieces[count++], 0xa5, PIECE);
        }
    } else if (!strcmp(command, "lost")) {
        for (unsigned i = 0; i < count; i++) lost += count_lost(pieces[i], PIECE);
        CHECK(lost > 0, "nothing is lost");
    } else if (!strcmp(command, "reuse")) {
        reuse();
    } else if (!strcmp(command, "quit")) {
        return false;
    } else {
        FAIL("unknown command %s", command);
    }
    say("OK %s pieces=%u lost=%u", command, count, lost);
    return true;
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    /* What comes next lies on the stack and in static memory: the allocator's may be lost. */
    static char buffer[BUFSIZ];
    setvbuf(stdin, buffer, _IOFBF, sizeof buffer);
    struct sigaction action = {.sa_handler = on_bus};
    sigaction(SIGBUS, &action, NULL);
    say("READY pid=%d", getpid());
    char line[128], command[32];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long mib = 0;
        if (sscanf(line, "%31s %lu", command, &mib) < 1) continue;
        if (!obey(command, mib)) break;
    }
    say("VERDICT PASS");
    return 0;
}

/* Loses memory to a device that takes it back by force, and goes on: every touch of what was lost
 * is SIGBUS, and what it gives up and maps anew is fresh. Line by line on stdin:
 *
 *   fill MIB   map that much in pieces, and fill it
 *   lost       touch all; some of it must be lost; says how many pages
 *   reuse      give up lost pages in every way that there is: what is there then is fresh, and what
 *              was not given up is as lost as before
 *   heap MIB   allocate that much by malloc, in sizes of 1 KiB to 3 MiB, and free every second piece
 *   reheap     some of the heap must be lost; free it, and allocate as much again: none of it is
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

#define HEAP_MAX 20000

static struct { uint8_t *at; size_t size; } heap[HEAP_MAX];
static unsigned heaped;

static size_t heap_size(uint64_t *random) {
    static const size_t most[] = {9000, 60000, 400000, 3 * MIB};
    return 1024 + next_random(random) % most[next_random(random) % 4];
}

static void fill_heap(uint64_t mib, uint64_t *random) {
    for (size_t sum = 0; sum < mib * MIB && heaped < HEAP_MAX; heaped++) {
        size_t size = heap_size(random);
        uint8_t *at = malloc(size);
        CHECK(at, "malloc: %s", strerror(errno));
        memset(at, 0x77, size);
        heap[heaped].at = at;
        heap[heaped].size = size;
        sum += size;
    }
}

/* Freed shortly before the loss: what the allocator has at hand is lost too. */
static void free_every_second(void) {
    unsigned kept = 0;
    for (unsigned i = 0; i < heaped; i++) {
        if (i % 2) free(heap[i].at);
        else heap[kept++] = heap[i];
    }
    heaped = kept;
}

static unsigned reheap(void) {
    unsigned lost = 0;
    size_t sum = 0;
    for (unsigned i = 0; i < heaped; i++) {
        for (size_t at = 0; at < heap[i].size; at += PAGE) lost += is_lost(heap[i].at + at);
        sum += heap[i].size;
    }
    CHECK(lost > 0, "nothing of the heap is lost");
    for (unsigned i = 0; i < heaped; i++) free(heap[i].at);
    heaped = 0;
    /* What is as small as a page shares its pages: only of what has its own all is fresh. */
    uint64_t random = opt_seed;
    for (size_t again = 0; again < sum * 2;) {
        size_t size = heap_size(&random) + 16384;
        /* Each in its turn: malloc, calloc, realloc of a smaller one, aligned_alloc. */
        uint8_t *at = heaped % 4 == 0   ? malloc(size)
                      : heaped % 4 == 1 ? calloc(1, size)
                      : heaped % 4 == 2 ? realloc(malloc(16384), size)
                                        : aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
        CHECK(at, "malloc: %s", strerror(errno));
        CHECK(heaped % 4 != 1 || find_nonzero(at, size / 8 * 8) < 0, "calloc is not zero");
        for (size_t i = 0; i < size; i += PAGE)
            CHECK(!is_lost(at + i), "%zu bytes anew: page %zu is SIGBUS", size, i / PAGE);
        CHECK(!is_lost(at + size - 1), "%zu bytes anew: the last is SIGBUS", size);
        memset(at, 0x78, size);
        again += size;
        heap[heaped].at = at;
        heap[heaped++].size = size;
        CHECK(heaped < HEAP_MAX, "too many pieces");
    }
    for (unsigned i = 0; i < heaped; i++) free(heap[i].at);
    heaped = 0;
    return lost;
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
    } else if (!strcmp(command, "heap")) {
        uint64_t random = opt_seed;
        fill_heap(mib, &random);
        free_every_second();
    } else if (!strcmp(command, "reheap")) {
        lost = reheap();
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
    obey_lines(obey);
    say("VERDICT PASS");
    return 0;
}

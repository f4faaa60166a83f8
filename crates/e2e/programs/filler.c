/* Holds memory and does with it what it is told, line by line on stdin:
 *
 *   fill MIB        allocate that much more and fill it (half malloc, half mmap)
 *   exhaust MIB     the same in steps of 1 MiB, stopping without complaint where malloc says ENOMEM
 *   verify          everything still holds what was written
 *   rewrite         write everything anew with another seed
 *   free-half       free every second piece
 *   dontneed        MADV_DONTNEED every second mapped piece; it must read as zero, then fill again
 *   locked MIB      allocate and mlock that much more;   unlock   munlock all of it
 *   zero-check MIB  allocate, all must be zero before the first write, free again
 *   stay            go on without stdin until killed
 *   quit            verify and end
 *
 * Each command is answered by one line "OK ..." or ends the program with VERDICT FAIL.
 */
#include "victim.h"

#define PIECE (1 * MIB)
#define PIECES_MAX (1U << 16)

static struct piece {
    uint8_t *at;
    uint64_t seed;
    bool mapped, locked;
} pieces[PIECES_MAX];
static unsigned count;
static uint64_t next_seed;

static bool add_piece(bool mapped) {
    CHECK(count < PIECES_MAX, "too many pieces");
    uint8_t *at = mapped ? map_anonymous(PIECE) : malloc(PIECE);
    if (!at) {
        CHECK(errno == ENOMEM, "allocation failed with %s, not ENOMEM", strerror(errno));
        return false;
    }
    if (mapped) CHECK(find_nonzero(at, PIECE) < 0, "fresh mapping is not zero");
    fill_pattern(at, PIECE, next_seed);
    pieces[count++] = (struct piece){at, next_seed++, mapped, false};
    return true;
}

static void verify_all(void) {
    for (unsigned i = 0; i < count; i++) {
        long wrong = find_wrong(pieces[i].at, PIECE, pieces[i].seed);
        CHECK(wrong < 0, "piece %u, word %ld: %016lx, expected %016lx", i, wrong,
              ((uint64_t *)pieces[i].at)[wrong], pattern_word(pieces[i].seed, (uint64_t)wrong));
    }
}

static void drop(struct piece *p) {
    if (p->mapped) CHECK(munmap(p->at, PIECE) == 0, "munmap: %s", strerror(errno));
    else free(p->at);
}

static void free_half(void) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (i % 2) drop(&pieces[i]);
        else pieces[kept++] = pieces[i];
    }
    count = kept;
}

static void dontneed(void) {
    for (unsigned i = 0; i < count; i += 2) {
        if (!pieces[i].mapped || pieces[i].locked) continue;
        CHECK(madvise(pieces[i].at, PIECE, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
        CHECK(find_nonzero(pieces[i].at, PIECE) < 0, "MADV_DONTNEED did not zero");
        fill_pattern(pieces[i].at, PIECE, pieces[i].seed);
    }
}

static void zero_check(uint64_t mib) {
    for (unsigned way = 0; way < 2; way++) {
        uint8_t *at = way ? map_anonymous(mib * MIB) : calloc(mib, MIB);
        CHECK(at, "%s of %lu MiB: %s", way ? "mmap" : "calloc", mib, strerror(errno));
        long wrong = find_nonzero(at, mib * MIB);
        CHECK(wrong < 0, "new memory is not zero: word %ld of %s", wrong, way ? "mmap" : "calloc");
        memset(at, 0xee, mib * MIB);
        if (way) munmap(at, mib * MIB);
        else free(at);
    }
}

static bool obey(const char *command, uint64_t mib) {
    unsigned before = count;
    if (!strcmp(command, "fill")) {
        for (uint64_t i = 0; i < mib; i++)
            CHECK(add_piece(i / 2 % 2), "out of memory after %u MiB", count);
    } else if (!strcmp(command, "exhaust")) {
        for (uint64_t i = 0; i < mib && add_piece(i / 2 % 2); i++) {}
    } else if (!strcmp(command, "locked")) {
        for (uint64_t i = 0; i < mib; i++) {
            CHECK(add_piece(true), "out of memory after %u MiB", count);
            struct piece *p = &pieces[count - 1];
            CHECK(mlock(p->at, PIECE) == 0, "mlock: %s", strerror(errno));
            p->locked = true;
        }
    } else if (!strcmp(command, "unlock")) {
        for (unsigned i = 0; i < count; i++) {
            if (pieces[i].locked) CHECK(munlock(pieces[i].at, PIECE) == 0, "munlock");
            pieces[i].locked = false;
        }
    } else if (!strcmp(command, "verify")) {
        verify_all();
    } else if (!strcmp(command, "rewrite")) {
        for (unsigned i = 0; i < count; i++)
            fill_pattern(pieces[i].at, PIECE, pieces[i].seed = next_seed++);
    } else if (!strcmp(command, "free-half")) {
        verify_all();
        free_half();
    } else if (!strcmp(command, "dontneed")) {
        dontneed();
    } else if (!strcmp(command, "zero-check")) {
        zero_check(mib);
    } else if (!strcmp(command, "stay")) {
        say("OK stay");
        for (;;) pause();
    } else if (!strcmp(command, "quit")) {
        verify_all();
        return false;
    } else {
        FAIL("unknown command %s", command);
    }
    say("OK %s before=%u now=%u", command, before, count);
    return true;
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    next_seed = opt_seed << 20;
    say("READY pid=%d", getpid());
    obey_lines(obey);
    for (unsigned i = 0; i < count; i++) drop(&pieces[i]);
    say("VERDICT PASS");
    return 0;
}

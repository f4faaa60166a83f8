/* malloc and its relatives once something was lost: as frugal as before. For memory that is promised
 * up to a limit; unmanaged, the first test would take all there is. */
#include "check.h"

enum { PIECES = 4096 };

static size_t resident(void) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*s %zu", &pages) == 1);
    if (file) fclose(file);
    return pages * PAGE;
}

/* Takes all there is but for some pieces of `size`, which it returns filled; counts them. */
static char **fill_the_pool(size_t size, unsigned *count) {
    static char *pieces[PIECES];
    static void **rest;
    *count = 0;
    while (*count < PIECES && (pieces[*count] = malloc(size))) memset(pieces[(*count)++], 'p', size);
    for (; size >= 64; size /= 2) {
        void **at;
        while ((at = malloc(size))) {
            *at = rest;
            rest = at;
        }
    }
    return pieces;
}

static void shrinking_takes_no_memory(void) {
    unsigned count;
    char **pieces = fill_the_pool(MIB, &count);
    CHECK(count > 10 && count < PIECES);
    static const size_t sizes[] = {600 * 1024, 300 * 1024, 20 * 1024, 10 * 1024, 100};
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (unsigned i = 0; i < count; i++) {
            char *at = realloc(pieces[i], sizes[s]);
            CHECK(at && all_are(at, sizes[s], 'p'));
            if (at) pieces[i] = at;
        }
    }
    /* Nor is much kept for what is small. */
    char *again = malloc(16 * MIB);
    CHECK(again != NULL);
    free(again);
    for (unsigned i = 0; i < count; i++) free(pieces[i]);
}

static void shrinking_touches_nothing(void) {
    char *at = malloc(64 * MIB);
    CHECK(at != NULL);
    at[0] = 's';
    size_t before = resident();
    at = realloc(at, 40 * MIB);
    CHECK(at && at[0] == 's');
    CHECK(resident() < before + 8 * MIB);
    free(at);
}

static void calloc_touches_nothing(void) {
    for (int used = 0; used < 2; used++) {
        size_t before = resident();
        char *at = calloc(1, 64 * MIB + 100);
        CHECK(at != NULL);
        CHECK(resident() < before + 8 * MIB);
        CHECK(all_are(at, 64 * MIB + 100, 0));
        memset(at, 'c', 64 * MIB + 100);
        free(at);
    }
}

static void locked_memory_is_zeroed_too(void) {
    char *at = malloc(MIB);
    memset(at, 'l', MIB);
    /* What is locked stays so when it is freed and allocated anew. */
    if (mlock(at, MIB) != 0) return (void)printf("  mlock: %s\n", strerror(errno));
    free(at);
    at = calloc(1, MIB);
    CHECK(at && all_are(at, MIB, 0));
    munlock(at, MIB);
    free(at);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : NULL;
#define RUN(test) run(wanted, #test, test)
    RUN(calloc_touches_nothing);
    RUN(shrinking_touches_nothing);
    RUN(locked_memory_is_zeroed_too);
    RUN(shrinking_takes_no_memory);
    return failures != 0;
}

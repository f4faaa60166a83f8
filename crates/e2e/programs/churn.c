/* An allocation-heavy program: every size, many threads, memory freed by others than who asked.
 *
 * Threads put pieces into shared slots and take out what lies there, verify it and free it. All of
 * malloc, calloc, realloc, reallocarray, memalign, posix_memalign, aligned_alloc, and
 * malloc_usable_size take part. Prints operations per second.
 */
#include "victim.h"
#include <malloc.h>

#define SLOTS 4096

struct piece {
    uint64_t bytes, seed;
    uint64_t words[];
};
static _Atomic(struct piece *) slots[SLOTS];
static struct {
    _Alignas(64) uint64_t ops;
} counts[64];

/* The first and last words and some between: this program is about allocation, not memory. */
static void stamp(struct piece *p, uint64_t bytes, uint64_t seed) {
    p->bytes = bytes;
    p->seed = seed;
    uint64_t words = (bytes - sizeof *p) / 8, step = words / 16 + 1;
    for (uint64_t i = 0; i < words; i += step) p->words[i] = pattern_word(seed, i);
    if (words) p->words[words - 1] = pattern_word(seed, words - 1);
}

static void verify(const struct piece *p) {
    uint64_t words = (p->bytes - sizeof *p) / 8, step = words / 16 + 1;
    for (uint64_t i = 0; i < words; i += step)
        CHECK(p->words[i] == pattern_word(p->seed, i), "piece of %lu bytes: word %lu", p->bytes, i);
    CHECK(!words || p->words[words - 1] == pattern_word(p->seed, words - 1), "last word");
}

static struct piece *allocate(uint64_t *random) {
    uint64_t r = next_random(random);
    /* Log-uniform from 32 B; one in 256 above 64 KiB, up to 4 MiB. */
    unsigned shift = (r & 0xff) == 0 ? 16 + (r >> 8) % 6 : 5 + (r >> 8) % 11;
    uint64_t bytes = ((1UL << shift) + ((r >> 20) & ((1UL << shift) - 1))) & ~7UL;
    struct piece *p = NULL;
    switch ((r >> 16) % 16) {
    case 0:
        p = calloc(1, bytes);
        CHECK(!p || find_nonzero(p, bytes) < 0, "calloc is not zero");
        break;
    case 1: p = memalign(64, bytes); break;
    case 2: CHECK(posix_memalign((void **)&p, 4096, bytes) == 0, "posix_memalign"); break;
    case 3: p = aligned_alloc(32, bytes & ~31UL); bytes &= ~31UL; break;
    default: p = malloc(bytes);
    }
    CHECK(p, "out of memory");
    CHECK(malloc_usable_size(p) >= bytes, "malloc_usable_size");
    stamp(p, bytes, r);
    return p;
}

static struct piece *resize(struct piece *p, uint64_t *random) {
    uint64_t bytes = (32 + next_random(random) % (2 * p->bytes)) & ~7UL;
    uint64_t kept = bytes < p->bytes ? bytes : p->bytes, seed = p->seed;
    bool whole = bytes >= p->bytes;
    uint64_t first = p->bytes > sizeof *p + 8 ? p->words[0] : 0;
    p = bytes % 16 ? realloc(p, bytes) : reallocarray(p, bytes / 16, 16);
    CHECK(p && p->seed == seed, "realloc");
    if (whole) verify(p);
    else if (kept > sizeof *p + 8) CHECK(p->words[0] == first, "realloc lost a word");
    stamp(p, bytes, seed);
    return p;
}

static void *work(void *argument) {
    unsigned thread = (unsigned)(uintptr_t)argument;
    uint64_t random = mix64(opt_seed * 64 + thread), ops = 0;
    uint64_t quota = opt_ops ? opt_ops / opt_threads : UINT64_MAX;
    watch(thread);
    while (ops < quota) {
        if (ops % 1024 == 0) {
            beat(thread);
            if (!opt_ops && time_is_up()) break;
        }
        struct piece *p = allocate(&random);
        if (ops % 8 == 0) p = resize(p, &random);
        p = atomic_exchange(&slots[next_random(&random) % SLOTS], p);
        if (p) {
            verify(p);
            free(p);
        }
        ops++;
    }
    counts[thread].ops = ops;
    unwatch(thread);
    return NULL;
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    void *nothing = malloc(0);
    CHECK(nothing, "malloc(0) gave NULL");
    free(nothing);
    free(NULL);
    say("READY threads=%u", opt_threads);
    start_watchdog();
    start_clock();
    uint64_t start = now_ns(), ops = 0;
    pthread_t threads[64];
    for (unsigned t = 0; t < opt_threads; t++)
        CHECK(!pthread_create(&threads[t], NULL, work, (void *)(uintptr_t)t), "pthread_create");
    for (unsigned t = 0; t < opt_threads; t++) {
        pthread_join(threads[t], NULL);
        ops += counts[t].ops;
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct piece *p = atomic_exchange(&slots[i], NULL);
        if (p) verify(p);
        free(p);
    }
    say("VERDICT PASS ops=%lu seconds=%.2f ops_per_second=%.0f", ops, seconds,
        (double)ops / seconds);
    return 0;
}

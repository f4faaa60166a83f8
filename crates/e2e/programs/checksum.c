/* No write is lost or torn.
 *
 * Memory is half malloc, half mmap, cut into chunks of eight 64-byte records and, one chunk in
 * eight, shared counters. A record has one owner thread, which rewrites it under a sequence lock
 * and remembers, in static memory that nobody moves, how often it did: a write that went into an
 * old copy shows as a version that is too old, a torn one as a wrong checksum. Other threads read
 * and verify. Counters take atomic adds from all threads; at the end their sum must be the sum of
 * what was added.
 *
 * An operation is one record rewritten, one record verified, or one atomic add.
 * --stalls: time every chunk visit with the cycle counter and print the distribution.
 */
#include "victim.h"
#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t ticks(void) { return __rdtsc(); }
#else
static inline uint64_t ticks(void) { return now_ns(); }
#endif

#define RECORDS_PER_CHUNK 8
#define CHUNK_BYTES (RECORDS_PER_CHUNK * 64UL)
#define CHUNKS_MAX (1UL << 23) /* 4 GiB of records */
#define PIECES_MAX 8192
#define STALL_BUCKETS 65536 /* of 250 ns each */

struct record {
    atomic_ulong version; /* twice the number of writes; odd while one is under way */
    uint64_t id, value, salt, a, b, c, checksum;
};
_Static_assert(sizeof(struct record) == 64, "a record is one cache line");

static uint32_t writes_of[CHUNKS_MAX * RECORDS_PER_CHUNK]; /* .bss, touched as used */
static uint8_t *chunk_at[CHUNKS_MAX];
static uint64_t chunks;

static struct worker {
    _Alignas(128) pthread_t thread;
    unsigned index;
    uint64_t random, ops, added;
    double ticks_per_ns;
    uint64_t stall_max, visits;
    uint32_t stalls[STALL_BUCKETS];
} workers[64];

static bool is_counter_chunk(uint64_t chunk) { return chunk % 8 == 7; }
static unsigned owner_of(uint64_t chunk) { return (unsigned)(chunk / 8 % opt_threads); }

static uint64_t checksum_of(const struct record *r, uint64_t version) {
    return mix64(r->id ^ mix64(r->value ^ mix64(r->salt ^ mix64(r->a ^ mix64(r->b ^ mix64(r->c ^
                                                                                  version))))));
}

static void fill_record(struct record *r, uint64_t version, uint64_t id, uint64_t random) {
    r->id = id;
    r->value = random;
    r->salt = mix64(random + 1);
    r->a = mix64(random + 2);
    r->b = mix64(random + 3);
    r->c = mix64(random + 4);
    r->checksum = checksum_of(r, version);
}

static void rewrite(struct record *r, uint64_t id, uint64_t random) {
    uint64_t version = atomic_load_explicit(&r->version, memory_order_relaxed);
    CHECK(version == 2UL * writes_of[id], "lost write: record %lu has version %lu, expected %lu",
          id, version, 2UL * writes_of[id]);
    CHECK(r->id == id && r->checksum == checksum_of(r, version), "torn record %lu (own)", id);
    atomic_store_explicit(&r->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    fill_record(r, version + 2, id, random ^ r->value);
    atomic_store_explicit(&r->version, version + 2, memory_order_release);
    writes_of[id]++;
}

static void verify(const struct record *r, uint64_t id) {
    struct record copy;
    uint64_t before = atomic_load_explicit(&r->version, memory_order_acquire);
    for (unsigned i = 1; i < 8; i++)
        ((volatile uint64_t *)&copy)[i] = ((const volatile uint64_t *)r)[i];
    atomic_thread_fence(memory_order_acquire);
    uint64_t after = atomic_load_explicit(&r->version, memory_order_relaxed);
    if (before != after || before % 2) return; /* being written */
    CHECK(copy.id == id && copy.checksum == checksum_of(&copy, before),
          "torn record %lu (seen by another thread)", id);
}

static void visit(struct worker *w, uint64_t chunk, uint64_t random) {
    uint8_t *at = chunk_at[chunk];
    if (is_counter_chunk(chunk)) {
        atomic_ulong *counters = (atomic_ulong *)at;
        for (unsigned i = 0; i < RECORDS_PER_CHUNK; i++) {
            uint64_t by = (random >> i) & 0xffff;
            atomic_fetch_add_explicit(&counters[(random + i * 9) % 64], by, memory_order_relaxed);
            w->added += by;
        }
        return;
    }
    struct record *records = (struct record *)at;
    bool own = owner_of(chunk) == w->index;
    for (unsigned i = 0; i < RECORDS_PER_CHUNK; i++) {
        uint64_t id = chunk * RECORDS_PER_CHUNK + i;
        if (own) rewrite(&records[i], id, random + i);
        else verify(&records[i], id);
    }
}

static void note_stall(struct worker *w, uint64_t taken) {
    uint64_t bucket = (uint64_t)((double)taken / w->ticks_per_ns) / 250;
    w->stalls[bucket < STALL_BUCKETS ? bucket : STALL_BUCKETS - 1]++;
    if (taken > w->stall_max) w->stall_max = taken;
    w->visits++;
}

static void *work(void *argument) {
    struct worker *w = argument;
    uint64_t quota = opt_ops ? opt_ops / opt_threads : UINT64_MAX;
    watch(w->index);
    while (w->ops < quota) {
        if (!opt_ops && time_is_up()) break;
        for (unsigned i = 0; i < 512; i++) {
            uint64_t random = next_random(&w->random);
            uint64_t chunk = (random >> 20) % chunks;
            /* Half of the visits go to chunks of its own. */
            if (random & 1) chunk = chunk / 8 / opt_threads * 8 * opt_threads + w->index * 8 +
                                    chunk % 7;
            if (chunk >= chunks) continue;
            if (opt_stalls) {
                uint64_t start = ticks();
                visit(w, chunk, random);
                note_stall(w, ticks() - start);
            } else {
                visit(w, chunk, random);
            }
            w->ops += RECORDS_PER_CHUNK;
        }
        beat(w->index);
    }
    unwatch(w->index);
    return NULL;
}

static void allocate(void) {
    uint64_t seed = opt_seed, wanted = opt_mib * MIB / CHUNK_BYTES;
    CHECK(wanted <= CHUNKS_MAX, "--mib %lu is more than this program can take", opt_mib);
    uint8_t *mapped = map_anonymous(wanted / 2 * CHUNK_BYTES);
    CHECK(mapped, "mmap: %s", strerror(errno));
    for (uint64_t i = 0; i < wanted / 2; i++) chunk_at[chunks++] = mapped + i * CHUNK_BYTES;
    while (chunks < wanted) {
        /* 16 KiB to 4 MiB, so that both kinds of malloc are there. */
        uint64_t count = (32UL << (next_random(&seed) % 9));
        if (count > wanted - chunks) count = wanted - chunks;
        uint8_t *piece = malloc(count * CHUNK_BYTES + 64);
        CHECK(piece, "malloc: %s", strerror(errno));
        piece = (uint8_t *)(((uintptr_t)piece + 63) & ~63UL);
        for (uint64_t i = 0; i < count; i++) chunk_at[chunks++] = piece + i * CHUNK_BYTES;
    }
    for (uint64_t chunk = 0; chunk < chunks; chunk++) {
        memset(chunk_at[chunk], 0, CHUNK_BYTES);
        if (is_counter_chunk(chunk)) continue;
        for (unsigned i = 0; i < RECORDS_PER_CHUNK; i++)
            fill_record((struct record *)chunk_at[chunk] + i, 0, chunk * RECORDS_PER_CHUNK + i,
                        mix64(chunk + i));
    }
}

static void verify_all(uint64_t added) {
    uint64_t sum = 0;
    for (uint64_t chunk = 0; chunk < chunks; chunk++) {
        if (is_counter_chunk(chunk)) {
            for (unsigned i = 0; i < 64; i++) sum += ((uint64_t *)chunk_at[chunk])[i];
            continue;
        }
        for (unsigned i = 0; i < RECORDS_PER_CHUNK; i++) {
            const struct record *r = (struct record *)chunk_at[chunk] + i;
            uint64_t id = chunk * RECORDS_PER_CHUNK + i;
            CHECK(r->version == 2UL * writes_of[id], "lost write: record %lu at the end", id);
            CHECK(r->id == id && r->checksum == checksum_of(r, r->version),
                  "torn record %lu at the end", id);
        }
    }
    CHECK(sum == added, "lost update: counters add up to %lu, expected %lu", sum, added);
}

static void print_stalls(void) {
    static uint64_t all[STALL_BUCKETS];
    uint64_t visits = 0, max = 0;
    for (unsigned t = 0; t < opt_threads; t++) {
        for (unsigned i = 0; i < STALL_BUCKETS; i++) all[i] += workers[t].stalls[i];
        visits += workers[t].visits;
        if (workers[t].stall_max > max) max = workers[t].stall_max;
    }
    const double wanted[] = {0.5, 0.99, 0.9999, 0.99999};
    double found_us[4] = {0};
    uint64_t below = 0;
    for (unsigned i = 0, k = 0; i < STALL_BUCKETS && k < 4; i++) {
        below += all[i];
        while (k < 4 && (double)below >= wanted[k] * (double)visits) found_us[k++] = (i + 1) * 0.25;
    }
    say("STALLS visits=%lu p50_us=%.2f p99_us=%.2f p99.99_us=%.2f p99.999_us=%.2f max_us=%.1f",
        visits, found_us[0], found_us[1], found_us[2], found_us[3],
        (double)max / workers[0].ticks_per_ns / 1000);
}

static double measure_ticks_per_ns(void) {
    uint64_t t0 = ticks(), n0 = now_ns();
    sleep_us(50000);
    return (double)(ticks() - t0) / (double)(now_ns() - n0);
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    allocate();
    double rate = measure_ticks_per_ns();
    say("READY mib=%lu threads=%u seed=%lu", opt_mib, opt_threads, opt_seed);
    start_watchdog();
    uint64_t start = now_ns();
    start_clock();
    for (unsigned t = 0; t < opt_threads; t++) {
        workers[t].index = t;
        workers[t].ticks_per_ns = rate;
        workers[t].random = mix64(opt_seed * 64 + t);
        CHECK(!pthread_create(&workers[t].thread, NULL, work, &workers[t]), "pthread_create");
    }
    uint64_t ops = 0, added = 0;
    for (unsigned t = 0; t < opt_threads; t++) {
        pthread_join(workers[t].thread, NULL);
        ops += workers[t].ops;
        added += workers[t].added;
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    verify_all(added);
    if (opt_stalls) print_stalls();
    say("VERDICT PASS ops=%lu seconds=%.2f ops_per_second=%.0f", ops, seconds,
        (double)ops / seconds);
    return 0;
}

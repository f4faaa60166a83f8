/* What the proof programs share: options, randomness, time, verdicts.
 *
 * A proof program is an ordinary program that knows nothing of memtide. It checks itself, prints
 * what it does line by line, and ends with one line "VERDICT PASS ..." (exit 0) or
 * "VERDICT FAIL ..." (exit 1). A program that hangs is a failure too: the watchdog says so.
 */
#ifndef VICTIM_H
#define VICTIM_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024UL * 1024UL)
#define PAGE 4096UL

/* ---- verdicts ------------------------------------------------------------------------------ */

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n < 0) n = 0;
    if (n > (int)sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    /* One write, so that lines of several threads and processes do not mix. */
    if (write(1, line, (size_t)n) != n) _exit(1);
}

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        say("VERDICT FAIL " __VA_ARGS__);                                                          \
        _exit(1);                                                                                  \
    } while (0)

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) FAIL(__VA_ARGS__);                                                       \
    } while (0)

/* ---- time and randomness ------------------------------------------------------------------- */

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000UL + (uint64_t)t.tv_nsec;
}

static inline void sleep_us(uint64_t us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {}
}

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, good enough, the same everywhere. */
static inline uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
    return z ^ (z >> 31);
}
static inline uint64_t next_random(uint64_t *state) {
    return mix64(*state += 0x9e3779b97f4a7c15UL);
}

/* ---- options ------------------------------------------------------------------------------- */

static double opt_seconds = 3;
static uint64_t opt_ops = 0; /* 0: as many as fit into opt_seconds */
static uint64_t opt_seed = 1;
static uint64_t opt_mib = 128;
static unsigned opt_threads = 2;
static const char *opt_mode = "";
static const char *opt_file = "";
static bool opt_stalls = false;

static inline void parse_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--stalls")) {
            opt_stalls = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : NULL;
        if (!value) {
            fprintf(stderr, "%s: option without value\n", name);
            exit(2);
        }
        if (!strcmp(name, "--seconds")) opt_seconds = atof(value);
        else if (!strcmp(name, "--ops")) opt_ops = strtoull(value, NULL, 0);
        else if (!strcmp(name, "--seed")) opt_seed = strtoull(value, NULL, 0);
        else if (!strcmp(name, "--mib")) opt_mib = strtoull(value, NULL, 0);
        else if (!strcmp(name, "--threads")) opt_threads = (unsigned)strtoul(value, NULL, 0);
        else if (!strcmp(name, "--mode")) opt_mode = value;
        else if (!strcmp(name, "--file")) opt_file = value;
        else {
            fprintf(stderr,
                    "unknown option %s; known: --seconds S --ops N --seed N --mib N --threads N "
                    "--mode M --file PATH --stalls\n",
                    name);
            exit(2);
        }
    }
    if (opt_threads < 1 || opt_threads > 64 || opt_mib < 1) {
        fprintf(stderr, "--threads is 1 to 64, --mib at least 1\n");
        exit(2);
    }
}

/* ---- the end of the run -------------------------------------------------------------------- */

static uint64_t run_ends_ns;
static atomic_bool stop_asked;

static inline void start_clock(void) { run_ends_ns = now_ns() + (uint64_t)(opt_seconds * 1e9); }
static inline bool time_is_up(void) {
    return atomic_load_explicit(&stop_asked, memory_order_relaxed) || now_ns() >= run_ends_ns;
}

/* ---- the watchdog -------------------------------------------------------------------------- */

/* Each thread that must make progress bumps its own counter; one that stands still for
 * WATCHDOG_SECONDS is a lost wake-up or a fault that nobody answered. In .bss, which no memory
 * manager moves. */
#define WATCHDOG_SECONDS 20
static struct {
    _Alignas(64) atomic_ulong beats;
    atomic_bool watched;
} watched_threads[128];

static inline void watch(unsigned thread) { atomic_store(&watched_threads[thread].watched, true); }
static inline void unwatch(unsigned thread) {
    atomic_store(&watched_threads[thread].watched, false);
}
static inline void beat(unsigned thread) {
    atomic_fetch_add_explicit(&watched_threads[thread].beats, 1, memory_order_relaxed);
}

static void *watchdog_main(void *unused) {
    (void)unused;
    static unsigned long seen[128];
    static unsigned still[128];
    for (;;) {
        sleep_us(500000);
        for (unsigned i = 0; i < 128; i++) {
            unsigned long beats = atomic_load(&watched_threads[i].beats);
            if (!atomic_load(&watched_threads[i].watched) || beats != seen[i]) still[i] = 0;
            else if (++still[i] >= 2 * WATCHDOG_SECONDS)
                FAIL("thread %u made no progress for %d s", i, WATCHDOG_SECONDS);
            seen[i] = beats;
        }
    }
    return NULL;
}

static inline void start_watchdog(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, watchdog_main, NULL) == 0, "pthread_create");
    pthread_detach(thread);
}

/* ---- memory -------------------------------------------------------------------------------- */

static inline void *map_anonymous(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* The word that a seeded fill puts at word `index`. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t index) {
    return mix64(seed * 0x9e3779b97f4a7c15UL + index) | 1;
}

static inline void fill_pattern(void *at, size_t bytes, uint64_t seed) {
    volatile uint64_t *words = at;
    for (size_t i = 0; i < bytes / 8; i++) words[i] = pattern_word(seed, i);
}

/* The index of the first wrong word, or -1. */
static inline long find_wrong(const void *at, size_t bytes, uint64_t seed) {
    const volatile uint64_t *words = at;
    for (size_t i = 0; i < bytes / 8; i++)
        if (words[i] != pattern_word(seed, i)) return (long)i;
    return -1;
}

static inline long find_nonzero(const void *at, size_t bytes) {
    const volatile uint64_t *words = at;
    for (size_t i = 0; i < bytes / 8; i++)
        if (words[i] != 0) return (long)i;
    return -1;
}

/* ---- commands ------------------------------------------------------------------------------ */

/* A line of standard input: a word, and a number that is 0 if it is left out. False ends. */
typedef bool obey_fn(const char *command, uint64_t number);

static inline void obey_lines(obey_fn *obey) {
    char line[128], command[32];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = 0;
        if (sscanf(line, "%31s %lu", command, &number) < 1) continue;
        if (!obey(command, number)) break;
    }
}
#endif

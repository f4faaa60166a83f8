/* fork keeps its meaning.
 *
 * Writer threads go on all the while. Writer w writes its sequence number n into slot n mod SLOTS
 * of a ring whose slots lie far apart, so at any instant the ring holds the last SLOTS numbers and
 * nothing else. A forked child must see, for ever, the ring of one instant; what it writes, its
 * parent never sees, and the other way round. --mode:
 *
 *   snapshot   children verify a frozen view while the parent writes
 *   isolation  children and grandchildren scribble over memory that the parent has too
 *   spawn      vfork, posix_spawn, system, popen
 *   daemon     a child that forks twice, closes everything, outlives its parent, and writes its
 *              verdict to --file
 *   orphan     like daemon, but the parent stays for as long as the child, and is killed by it
 *   all        snapshot, isolation and spawn in turn (the default)
 */
#include "victim.h"
#include <spawn.h>

extern char **environ;

#define SLOTS 2048UL
#define WRITERS_MAX 8

static uint64_t *rings[WRITERS_MAX]; /* in memory that moves */
static size_t slot_stride_words;
static uint64_t last_written[WRITERS_MAX]; /* in .bss */
static pthread_t writers[WRITERS_MAX];
static atomic_bool writers_stop;
static uint8_t *quiet; /* memory that only this program's main thread writes */
static size_t quiet_bytes;
static uint64_t quiet_seed;

static volatile uint64_t *slot(unsigned writer, uint64_t n) {
    /* 1021 is odd, so this visits every slot before it visits one again. */
    return rings[writer] + (n * 1021 % SLOTS) * slot_stride_words;
}

static void *writer_main(void *argument) {
    unsigned w = (unsigned)(uintptr_t)argument;
    uint64_t n = SLOTS;
    watch(w);
    while (!atomic_load_explicit(&writers_stop, memory_order_relaxed)) {
        *slot(w, n) = n;
        last_written[w] = n++;
        if (n % 65536 == 0) beat(w);
        /* Leaves room for the others on a small machine. */
        if (n % 1048576 == 0) sleep_us(1000);
    }
    unwatch(w);
    return NULL;
}

/* The number of the last write seen; fails if what is seen is not one instant of the ring. */
static uint64_t verify_ring(unsigned w, const char *who) {
    uint64_t newest = 0;
    for (uint64_t i = 0; i < SLOTS; i++) {
        uint64_t seen = *slot(w, i);
        if (seen > newest) newest = seen;
    }
    for (uint64_t n = newest - SLOTS + 1; n <= newest; n++)
        CHECK(*slot(w, n) == n, "%s: writer %u: slot of write %lu holds %lu (newest %lu)", who, w,
              n, *slot(w, n), newest);
    return newest;
}

static void start_writers(void) {
    slot_stride_words = opt_mib * MIB / 2 / opt_threads / SLOTS / 8;
    CHECK(slot_stride_words >= 8 && opt_threads <= WRITERS_MAX, "--mib too small");
    for (unsigned w = 0; w < opt_threads; w++) {
        size_t bytes = SLOTS * slot_stride_words * 8;
        rings[w] = w % 2 ? malloc(bytes) : map_anonymous(bytes);
        CHECK(rings[w], "out of memory");
        memset(rings[w], 0, bytes);
        for (uint64_t n = 0; n < SLOTS; n++) *slot(w, n) = n;
        last_written[w] = SLOTS - 1;
    }
    quiet_bytes = opt_mib * MIB / 2;
    quiet = malloc(quiet_bytes);
    CHECK(quiet, "out of memory");
    fill_pattern(quiet, quiet_bytes, quiet_seed = opt_seed);
    for (unsigned w = 0; w < opt_threads; w++)
        CHECK(!pthread_create(&writers[w], NULL, writer_main, (void *)(uintptr_t)w), "thread");
}

static void stop_writers(void) {
    atomic_store(&writers_stop, true);
    for (unsigned w = 0; w < opt_threads; w++) {
        pthread_join(writers[w], NULL);
        uint64_t newest = verify_ring(w, "parent at the end");
        CHECK(newest == last_written[w], "parent: last write %lu of writer %u lost (newest %lu)",
              last_written[w], w, newest);
    }
}

static void verify_quiet(const char *who) {
    long wrong = find_wrong(quiet, quiet_bytes, quiet_seed);
    CHECK(wrong < 0, "%s: quiet memory, word %ld is wrong", who, wrong);
}

static void reap(pid_t child, const char *what) {
    int status;
    for (uint64_t start = now_ns();;) {
        pid_t done = waitpid(child, &status, WNOHANG);
        if (done == child) break;
        CHECK(done == 0, "%s: waitpid: %s", what, strerror(errno));
        if (now_ns() - start > 60000000000UL) {
            kill(child, SIGKILL);
            FAIL("%s: child %d hangs", what, child);
        }
        sleep_us(500);
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: child ended with status %x", what,
          status);
}

static pid_t fork_or_fail(void) {
    pid_t child = fork();
    CHECK(child >= 0, "fork: %s", strerror(errno));
    return child;
}

/* What every child tries besides: allocation works and gives zeroed memory. */
static void child_allocates(void) {
    for (size_t bytes = 100; bytes < 8 * MIB; bytes *= 7) {
        uint8_t *at = calloc(1, bytes);
        CHECK(at && find_nonzero(at, bytes & ~7UL) < 0, "child: calloc(%zu)", bytes);
        memset(at, 0xcc, bytes);
        free(at);
    }
}

static void watch_snapshot(uint64_t ms, const char *who) {
    uint64_t first[WRITERS_MAX];
    for (unsigned w = 0; w < opt_threads; w++) first[w] = verify_ring(w, who);
    verify_quiet(who);
    for (uint64_t end = now_ns() + ms * 1000000; now_ns() < end; sleep_us(3000))
        for (unsigned w = 0; w < opt_threads; w++)
            CHECK(verify_ring(w, who) == first[w], "%s: the view of writer %u moved on", who, w);
}

static void run_snapshot(uint64_t *random) {
    uint64_t ms = next_random(random) % 200;
    pid_t children[3];
    unsigned count = 1 + next_random(random) % 3;
    for (unsigned i = 0; i < count; i++) {
        if ((children[i] = fork_or_fail()) != 0) continue;
        watch_snapshot(ms, "child");
        child_allocates();
        watch_snapshot(5, "child after allocating");
        _exit(0);
    }
    for (unsigned i = 0; i < count; i++) reap(children[i], "snapshot");
}

/* A child scribbles, forks, and both find what they wrote, to `depth` generations. */
static void scribbling_child(unsigned depth, uint64_t seed) {
    verify_quiet("child before writing");
    /* Only a part, so that pages of both kinds stay. */
    for (size_t at = 0; at + 64 * PAGE <= quiet_bytes; at += 128 * PAGE)
        fill_pattern(quiet + at, 32 * PAGE, seed + at);
    sleep_us(mix64(seed) % 50000);
    if (depth > 0) {
        quiet_seed = seed;
        fill_pattern(quiet, quiet_bytes, seed);
        pid_t child = fork_or_fail();
        if (child == 0) {
            scribbling_child(depth - 1, seed + 1000);
            _exit(0);
        }
        reap(child, "grandchild");
        verify_quiet("child after its own child wrote");
        return;
    }
    for (size_t at = 0; at + 64 * PAGE <= quiet_bytes; at += 128 * PAGE)
        CHECK(find_wrong(quiet + at, 32 * PAGE, seed + at) < 0, "child lost its own write");
}

static void run_isolation(uint64_t *random) {
    uint64_t seed = next_random(random);
    pid_t child = fork_or_fail();
    if (child == 0) {
        scribbling_child((unsigned)(seed % 3), seed);
        _exit(0);
    }
    verify_quiet("parent while its child writes");
    if (seed & 8) fill_pattern(quiet, quiet_bytes, quiet_seed = seed ^ 1);
    reap(child, "isolation");
    verify_quiet("parent after its child wrote");
}

static void run_spawn(void) {
    pid_t child = vfork();
    CHECK(child >= 0, "vfork: %s", strerror(errno));
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    reap(child, "vfork");
    char *arguments[] = {"sh", "-c", "exit 0", NULL};
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0, "posix_spawn");
    reap(child, "posix_spawn");
    int status = system("exit 7");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "system: status %x", status);
    FILE *pipe = popen("echo through the pipe", "r");
    char line[64] = "";
    CHECK(pipe && fgets(line, sizeof line, pipe), "popen");
    CHECK(!strcmp(line, "through the pipe\n"), "popen read %s", line);
    CHECK(pclose(pipe) == 0, "pclose");
    verify_quiet("parent after spawning");
}

static void write_verdict(const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s.part", opt_file);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || rename(path, opt_file) != 0) _exit(1);
}

/* Runs in the daemonized grandchild, whose parents are gone: goes on using what it inherited. */
static void live_alone(void) {
    uint64_t end = now_ns() + (uint64_t)(opt_seconds * 1e9), rounds = 0;
    for (; now_ns() < end; rounds++) {
        for (unsigned w = 0; w < opt_threads; w++) verify_ring(w, "daemon");
        verify_quiet("daemon");
        fill_pattern(quiet, quiet_bytes, ++quiet_seed);
        child_allocates();
    }
    verify_quiet("daemon at the end");
    char text[128];
    snprintf(text, sizeof text, "VERDICT PASS rounds=%lu pid=%d\n", rounds, getpid());
    write_verdict(text);
    _exit(0);
}

static void become_daemon(bool kill_parent) {
    pid_t original = getpid();
    pid_t child = fork_or_fail();
    if (child == 0) {
        if (setsid() < 0) FAIL("setsid");
        if (fork_or_fail() != 0) _exit(0);
        int report = open("/dev/null", O_RDWR);
        dup2(report, 0);
        /* Failures go to the verdict's file, which say() reaches as descriptor 1. */
        char path[4096];
        snprintf(path, sizeof path, "%s.log", opt_file);
        int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
        dup2(log, 1);
        dup2(log, 2);
        syscall(SYS_close_range, 3U, ~0U, 0U);
        if (kill_parent) {
            sleep_us(200000);
            kill(original, SIGKILL);
        }
        live_alone();
    }
    reap(child, "first fork of daemon");
    if (kill_parent) pause();
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    if (!*opt_mode) opt_mode = "all";
    bool all = !strcmp(opt_mode, "all");
    start_writers();
    say("READY pid=%d", getpid());
    start_watchdog();
    start_clock();
    if (!strcmp(opt_mode, "daemon") || !strcmp(opt_mode, "orphan")) {
        sleep_us(50000);
        become_daemon(!strcmp(opt_mode, "orphan"));
        stop_writers();
        say("VERDICT PASS daemonized");
        return 0;
    }
    uint64_t random = opt_seed, rounds = 0;
    do {
        if (all || !strcmp(opt_mode, "snapshot")) run_snapshot(&random);
        if (all || !strcmp(opt_mode, "isolation")) run_isolation(&random);
        if (all || !strcmp(opt_mode, "spawn")) run_spawn();
        if (++rounds % 8 == 0) say("PROGRESS rounds=%lu", rounds);
        /* Sometimes long enough that everything is shared again before the next fork. */
        sleep_us(next_random(&random) % 3 ? 1000 : 150000);
    } while (opt_ops ? rounds < opt_ops : !time_is_up());
    stop_writers();
    say("VERDICT PASS rounds=%lu", rounds);
    return 0;
}

/* Every wake-up arrives, also for sleepers whose memory is moved under them.
 *
 * Pairs of threads: one sleeps without time-out on a word in malloc'ed or mapped memory, the other
 * sleeps a little, changes the word and wakes it. Each pair uses one way of sleeping:
 *   raw futex, private and not (FUTEX_WAIT and FUTEX_WAIT_BITSET), mutex + condition variable,
 *   private and process-shared, semaphores private and process-shared, contended mutexes.
 * --mode pi adds priority-inheritance mutexes. A pair that stands still is caught by the watchdog.
 */
#include "victim.h"
#include <linux/futex.h>
#include <semaphore.h>

enum way {
    FUTEX_PRIVATE, FUTEX_SHARED, BITSET_SHARED, COND_PRIVATE, COND_SHARED,
    SEM_PRIVATE, SEM_SHARED, MUTEX_SHARED, MUTEX_PI_SHARED, WAYS
};
static const char *const way_names[WAYS] = {
    "futex-private", "futex-shared", "bitset-shared", "cond-private", "cond-shared",
    "sem-private",   "sem-shared",   "mutex-shared",  "mutex-pi-shared"};

/* What lies in the memory that moves; one page each, spread far apart. */
struct meeting {
    _Alignas(64) atomic_uint turn; /* even: the sleeper may go on after the waker's next step */
    atomic_uint answered;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned told; /* under mutex */
    sem_t go, done;
    uint64_t inside; /* under mutex: a plain counter that only mutual exclusion keeps right */
};

static struct pair {
    struct meeting *m;
    enum way way;
    unsigned index;
    uint64_t rounds, inside;
    pthread_t sleeper, waker;
} pairs[32];
static unsigned pair_count;
static atomic_bool finishing;

static long futex(atomic_uint *word, int op, unsigned value) {
    return syscall(SYS_futex, word, op, value, NULL, NULL, FUTEX_BITSET_MATCH_ANY);
}

static int wait_op(enum way way) {
    switch (way) {
    case FUTEX_PRIVATE: return FUTEX_WAIT | FUTEX_PRIVATE_FLAG;
    case BITSET_SHARED: return FUTEX_WAIT_BITSET;
    default: return FUTEX_WAIT;
    }
}
static int wake_op(enum way way) {
    return way == FUTEX_PRIVATE ? FUTEX_WAKE | FUTEX_PRIVATE_FLAG : FUTEX_WAKE;
}

/* Waits until the round's word says `round`, whatever the way. */
static void await_round(struct pair *p, unsigned round) {
    struct meeting *m = p->m;
    switch (p->way) {
    case FUTEX_PRIVATE:
    case FUTEX_SHARED:
    case BITSET_SHARED:
        for (unsigned seen; (seen = atomic_load(&m->turn)) != round;)
            if (futex(&m->turn, wait_op(p->way), seen) < 0 && errno != EAGAIN && errno != EINTR)
                FAIL("%s: futex wait: %s", way_names[p->way], strerror(errno));
        break;
    case COND_PRIVATE:
    case COND_SHARED:
        pthread_mutex_lock(&m->mutex);
        while (m->told != round) pthread_cond_wait(&m->cond, &m->mutex);
        pthread_mutex_unlock(&m->mutex);
        break;
    case SEM_PRIVATE:
    case SEM_SHARED:
        while (sem_wait(&m->go) != 0) CHECK(errno == EINTR, "sem_wait: %s", strerror(errno));
        break;
    default: break;
    }
}

static void announce_round(struct pair *p, unsigned round) {
    struct meeting *m = p->m;
    switch (p->way) {
    case FUTEX_PRIVATE:
    case FUTEX_SHARED:
    case BITSET_SHARED:
        atomic_store(&m->turn, round);
        CHECK(futex(&m->turn, wake_op(p->way), 1) >= 0, "futex wake: %s", strerror(errno));
        break;
    case COND_PRIVATE:
    case COND_SHARED:
        pthread_mutex_lock(&m->mutex);
        m->told = round;
        pthread_cond_signal(&m->cond);
        pthread_mutex_unlock(&m->mutex);
        break;
    case SEM_PRIVATE:
    case SEM_SHARED: CHECK(sem_post(&m->go) == 0, "sem_post: %s", strerror(errno)); break;
    default: break;
    }
}

static bool is_mutex(enum way way) { return way == MUTEX_SHARED || way == MUTEX_PI_SHARED; }

/* Both threads of a mutex pair: hold it while sleeping, so that the other sleeps in it. */
static void *contend(struct pair *p, unsigned thread) {
    uint64_t random = mix64(opt_seed * 1000 + thread);
    watch(thread);
    while (!atomic_load(&finishing)) {
        CHECK(pthread_mutex_lock(&p->m->mutex) == 0, "%s: lock", way_names[p->way]);
        p->m->inside++;
        p->inside++;
        sleep_us(next_random(&random) % 4 ? next_random(&random) % 300
                                          : next_random(&random) % 20000);
        CHECK(pthread_mutex_unlock(&p->m->mutex) == 0, "%s: unlock", way_names[p->way]);
        beat(thread);
        sleep_us(next_random(&random) % 50);
    }
    unwatch(thread);
    return NULL;
}

static void *sleeper(void *argument) {
    struct pair *p = argument;
    unsigned thread = 2 * p->index;
    if (is_mutex(p->way)) return contend(p, thread);
    watch(thread);
    for (unsigned round = 1;; round++) {
        await_round(p, round);
        if (atomic_load(&finishing)) break;
        beat(thread);
        /* The answer comes back by spinning on sched_yield: only one direction is under test. */
        atomic_store(&p->m->answered, round);
    }
    atomic_store(&p->m->answered, UINT32_MAX);
    unwatch(thread);
    return NULL;
}

static void *waker(void *argument) {
    struct pair *p = argument;
    unsigned thread = 2 * p->index + 1;
    if (is_mutex(p->way)) return contend(p, thread);
    uint64_t random = mix64(opt_seed * 1000 + thread);
    watch(thread);
    unsigned round = 0;
    while (!time_is_up()) {
        /* Mostly short; sometimes long enough for several moves to pass over the sleeper. */
        sleep_us(next_random(&random) % 8 ? next_random(&random) % 2000
                                          : next_random(&random) % 150000);
        announce_round(p, ++round);
        for (uint64_t start = now_ns(); atomic_load(&p->m->answered) != round; sleep_us(20))
            CHECK(now_ns() - start < 10000000000UL, "%s: wake-up %u never arrived",
                  way_names[p->way], round);
        beat(thread);
    }
    p->rounds = round;
    unwatch(thread);
    return NULL;
}

static void prepare(struct pair *p) {
    bool shared = p->way == COND_SHARED || p->way == SEM_SHARED || is_mutex(p->way);
    pthread_mutexattr_t ma;
    pthread_condattr_t ca;
    pthread_mutexattr_init(&ma);
    pthread_condattr_init(&ca);
    pthread_mutexattr_setpshared(&ma, shared);
    pthread_condattr_setpshared(&ca, shared);
    if (p->way == MUTEX_PI_SHARED) pthread_mutexattr_setprotocol(&ma, PTHREAD_PRIO_INHERIT);
    CHECK(!pthread_mutex_init(&p->m->mutex, &ma), "mutex_init");
    CHECK(!pthread_cond_init(&p->m->cond, &ca), "cond_init");
    CHECK(!sem_init(&p->m->go, shared, 0), "sem_init");
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    bool pi = !strcmp(opt_mode, "pi");
    uint64_t bytes = opt_mib * MIB / 2;
    uint8_t *areas[2] = {map_anonymous(bytes), malloc(bytes)};
    CHECK(areas[0] && areas[1], "out of memory");
    for (unsigned a = 0; a < 2; a++) memset(areas[a], 0, bytes);
    for (unsigned way = 0; way < (pi ? WAYS : WAYS - 1); way++) {
        for (unsigned a = 0; a < 2; a++) {
            struct pair *p = &pairs[pair_count];
            p->index = pair_count++;
            p->way = way;
            uint64_t step = bytes / (2 * WAYS + 1);
            p->m = (struct meeting *)(((uintptr_t)areas[a] + step * p->index + 63) & ~63UL);
            prepare(p);
        }
    }
    say("READY pairs=%u", pair_count);
    start_watchdog();
    start_clock();
    for (unsigned i = 0; i < pair_count; i++) {
        CHECK(!pthread_create(&pairs[i].sleeper, NULL, sleeper, &pairs[i]), "pthread_create");
        CHECK(!pthread_create(&pairs[i].waker, NULL, waker, &pairs[i]), "pthread_create");
    }
    while (!time_is_up()) sleep_us(20000);
    uint64_t rounds = 0;
    for (unsigned i = 0; i < pair_count; i++) {
        struct pair *p = &pairs[i];
        if (!is_mutex(p->way)) {
            pthread_join(p->waker, NULL);
            rounds += p->rounds;
        }
    }
    atomic_store(&finishing, true);
    for (unsigned i = 0; i < pair_count; i++) {
        struct pair *p = &pairs[i];
        if (is_mutex(p->way)) pthread_join(p->waker, NULL);
        else announce_round(p, (unsigned)p->rounds + 1);
        pthread_join(p->sleeper, NULL);
        if (is_mutex(p->way)) {
            CHECK(p->m->inside == p->inside, "%s: two threads were inside", way_names[p->way]);
            rounds += p->inside;
        }
    }
    say("VERDICT PASS wakes=%lu", rounds);
    return 0;
}

/* Being refused memory: malloc says so with ENOMEM, and nothing else happens. For memory that is
 * promised up to a limit, or refused by chance; unmanaged, the first test would take all there is. */
#include "check.h"
#include <stdatomic.h>

enum { THREADS = 24, ROUNDS = 6 };

static atomic_uint granted, refused;

/* Memory as malloc gave it: refused with ENOMEM, or as large as it should be. */
static char *judged(char *at, size_t size) {
    if (at) {
        at[0] = at[size - 1] = 1;
        atomic_fetch_add(&granted, 1);
    } else {
        CHECK(errno == ENOMEM);
        atomic_fetch_add(&refused, 1);
    }
    errno = 0;
    return at;
}

static void ask_in_all_ways(size_t size) {
    free(judged(malloc(size), size));
    free(judged(calloc(1, size), size));
    void *at = NULL;
    int error = posix_memalign(&at, 4096, size);
    CHECK(error == 0 || error == ENOMEM);
    if (error) errno = error;
    char *more = judged(realloc(judged(error ? NULL : at, size), size * 3), size * 3);
    free(more ? more : error ? NULL : at);
}

static pthread_barrier_t all_are_there;

/* The first thing that this thread does is to allocate, or to free what another one allocated. */
static void *newcomer(void *given) {
    free(given);
    for (size_t size = 8; size <= 12 * MIB; size = size * 3 + 1) ask_in_all_ways(size);
    pthread_barrier_wait(&all_are_there);
    for (size_t size = 12 * MIB; size >= 8; size /= 5) ask_in_all_ways(size);
    return NULL;
}

/* Threads that are there all at once, so that they spread over the allocator's arenas. */
static void come_and_go(void) {
    pthread_t threads[THREADS];
    void *given[THREADS];
    int created = 0;
    for (int i = 0; i < THREADS; i++) given[i] = i % 2 ? malloc(100) : NULL;
    /* What a thread itself needs may be refused too, for a while. */
    pthread_barrier_init(&all_are_there, NULL, THREADS);
    for (int tries = 0; created < THREADS; tries++) {
        CHECK(tries < 1000000);
        int error = pthread_create(&threads[created], NULL, newcomer, given[created]);
        CHECK(error == 0 || error == EAGAIN);
        if (error == 0) created++;
    }
    for (int i = 0; i < created; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_are_there);
}

static void threads_begin_and_end_while_all_is_refused(void) {
    enum { SPARE = 2000 };
    static void *spare[SPARE];
    for (int i = 0; i < SPARE; i++) spare[i] = malloc(16 + (size_t)i % 40 * 64);
    /* All there is, in one list. */
    void **all = NULL;
    for (size_t size = 8 * MIB; size >= 64; size = size / 2) {
        void **at;
        while ((at = malloc(size))) {
            *at = all;
            all = at;
        }
        CHECK(errno == ENOMEM);
    }
    /* The main thread keeps what creating a thread takes. */
    for (int i = 0; i < SPARE; i++) free(spare[i]);
    granted = refused = 0;
    for (int round = 0; round < ROUNDS; round++) come_and_go();
    printf("  %u granted, %u refused\n", granted, refused);
    CHECK(refused > granted);
    while (all) {
        void **next = *all;
        free(all);
        all = next;
    }
    char *again = malloc(8 * MIB);
    CHECK(again != NULL);
    free(again);
}

static void threads_begin_and_end_while_some_is_refused(void) {
    granted = refused = 0;
    for (int round = 0; round < ROUNDS; round++) come_and_go();
    printf("  %u granted, %u refused\n", granted, refused);
    CHECK(granted > 0 && refused > 0);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : NULL;
#define RUN(test) run(wanted, #test, test)
    RUN(threads_begin_and_end_while_all_is_refused);
    RUN(threads_begin_and_end_while_some_is_refused);
    return failures != 0;
}

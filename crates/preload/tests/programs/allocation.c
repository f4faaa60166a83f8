/* malloc and its relatives, in threads, signal handlers and forked children. */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <sched.h>
#include <spawn.h>
#include <sys/time.h>

extern char **environ;

static char *early;

__attribute__((constructor)) static void before_main(void) {
    early = malloc(100000);
    if (early) memset(early, 'e', 100000);
}

static void early_memory_lives(void) {
    CHECK(early && all_are(early, 100000, 'e'));
    free(early);
}

static void sizes_of_all_sorts(void) {
    for (size_t size = 0; size < 20 * MIB; size = size * 3 / 2 + 1) {
        char *at = malloc(size);
        CHECK(at != NULL);
        CHECK((uintptr_t)at % (size < 16 ? 8 : 16) == 0);
        CHECK(malloc_usable_size(at) >= size);
        memset(at, 1, malloc_usable_size(at));
        free(at);
    }
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void calloc_is_zero_after_reuse(void) {
    for (size_t size = 1; size < 12 * MIB; size = size * 2 + 7) {
        for (int i = 0; i < 4; i++) {
            char *at = malloc(size);
            memset(at, 0xee, size);
            free(at);
            at = calloc(1, size);
            CHECK(at && all_are(at, size, 0));
            free(at);
        }
    }
}

static void realloc_keeps_content(void) {
    char *at = NULL;
    size_t len = 0;
    srandom(7);
    for (int i = 0; i < 400; i++) {
        size_t new_len = 1 + (size_t)random() % (i % 10 ? 10000 : 9 * MIB);
        at = realloc(at, new_len);
        CHECK(at != NULL);
        CHECK(all_are(at, len < new_len ? len : new_len, 'r'));
        memset(at, 'r', new_len);
        len = new_len;
    }
    CHECK(realloc(at, 0) == NULL);
    at = reallocarray(malloc(100), 1000, 1000);
    CHECK(at != NULL && malloc_usable_size(at) >= 1000000);
    free(at);
    volatile size_t many = SIZE_MAX / 2;
    errno = 0;
    CHECK(reallocarray(NULL, many, 3) == NULL && errno == ENOMEM);
}

static void alignment_is_kept(void) {
    for (size_t align = sizeof(void *); align <= 8 * MIB; align *= 2) {
        void *at = NULL;
        CHECK(posix_memalign(&at, align, align / 2 + 3) == 0 && (uintptr_t)at % align == 0);
        memset(at, 1, align / 2 + 3);
        free(at);
        at = aligned_alloc(align, align);
        CHECK(at && (uintptr_t)at % align == 0);
        at = realloc(at, 100);
        free(at);
    }
    void *at = NULL;
    CHECK(posix_memalign(&at, 3, 8) == EINVAL && posix_memalign(&at, 24, 8) == EINVAL);
    at = memalign(48, 100);
    CHECK(at && (uintptr_t)at % 64 == 0);
    free(at);
    at = valloc(10);
    CHECK(at && (uintptr_t)at % PAGE == 0);
    free(at);
    at = pvalloc(PAGE + 1);
    CHECK(at && (uintptr_t)at % PAGE == 0 && malloc_usable_size(at) >= 2 * PAGE);
    free(at);
}

static void too_much_is_refused(void) {
    volatile size_t all = SIZE_MAX - 100000;
    errno = 0;
    CHECK(malloc(all) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(all, 16) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(realloc(NULL, all) == NULL && errno == ENOMEM);
    void *at;
    CHECK(posix_memalign(&at, 4096, all) == ENOMEM);
    errno = 0;
    CHECK(aligned_alloc(4096, all) == NULL && errno == ENOMEM);
}

static void errno_is_left_alone(void) {
    errno = 1234;
    for (size_t size = 1; size < 64 * MIB; size *= 2) {
        void *at = malloc(size);
        free(at);
    }
    CHECK(errno == 1234);
}

/* Threads hand blocks around: each frees what another one allocated. */
enum { THREADS = 64, SLOTS = 256 };
static _Atomic(uintptr_t) slots[SLOTS];

static void *exchange(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    for (int i = 0; i < 4000; i++) {
        size_t size = 16 + (size_t)rand_r(&state) % (i % 50 ? 600 : 400000);
        unsigned char *at = malloc(size);
        if (!at) return "malloc";
        unsigned char mark = (unsigned char)rand_r(&state);
        memcpy(at, &size, sizeof size);
        at[8] = mark;
        at[size - 1] = mark;
        unsigned char *old =
            (unsigned char *)__atomic_exchange_n((uintptr_t *)&slots[(unsigned)rand_r(&state) % SLOTS], (uintptr_t)at, __ATOMIC_ACQ_REL);
        if (old) {
            size_t old_size;
            memcpy(&old_size, old, sizeof old_size);
            if (old[8] != old[old_size - 1]) return "torn";
            free(old);
        }
    }
    return NULL;
}

static void threads_free_each_others(void) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, exchange, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
    for (int i = 0; i < SLOTS; i++) {
        free((void *)slots[i]);
        slots[i] = 0;
    }
}

static volatile sig_atomic_t interrupted;

static void on_profile(int signal) {
    (void)signal;
    int errno_before = errno;
    char *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at != MAP_FAILED) {
        at[0] = 1;
        munmap(at, MIB);
    }
    void *block = malloc(5000);
    free(block);
    interrupted++;
    errno = errno_before;
}

static void handlers_allocate(void) {
    struct sigaction action = {.sa_handler = on_profile}, before;
    sigaction(SIGALRM, &action, &before);
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    /* The handler interrupts the mmap family, which it may use; not malloc, which it may not. */
    while (interrupted < 300) {
        char *at = mmap(NULL, 3 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED && at[MIB] == 0);
        at[MIB] = 1;
        mprotect(at, MIB, PROT_READ);
        munmap(at, 3 * MIB);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
}

static volatile int stop;

static void *churn(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    while (!stop) {
        size_t size = 1 + (size_t)rand_r(&state) % (rand_r(&state) % 20 ? 2000 : 3000000);
        char *at = malloc(size);
        at[0] = at[size - 1] = 1;
        free(at);
        at = mmap(NULL, 300 * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        at[0] = 1;
        munmap(at, 300 * 1024);
    }
    return NULL;
}

static int child_works(char *shared) {
    for (int i = 0; i < 200; i++) {
        size_t size = 1 + (size_t)i * 5000;
        char *at = malloc(size);
        if (!at) return 1;
        memset(at, 2, size);
        free(at);
    }
    memset(shared, 3, 4 * MIB);
    char *at = mmap(NULL, 5 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || !all_are(at, 5 * MIB, 0)) return 2;
    munmap(at, 5 * MIB);
    return !all_are(shared, 4 * MIB, 3);
}

static void forks_in_a_program_with_threads(void) {
    pthread_t threads[4];
    stop = 0;
    char *shared = fresh(4 * MIB);
    memset(shared, 1, 4 * MIB);
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) _exit(child_works(shared));
        CHECK(child > 0 && went_well(child));
        CHECK(all_are(shared, 4 * MIB, 1));
    }
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    munmap(shared, 4 * MIB);
}

static void parent_and_child_see_their_own(void) {
    char *shared = fresh(4 * MIB);
    memset(shared, 1, 4 * MIB);
    int down[2], up[2];
    CHECK(pipe(down) == 0 && pipe(up) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        shared[5] = 7;
        if (write(up[1], "x", 1) != 1 || read(down[0], &byte, 1) != 1) _exit(1);
        _exit(!(shared[5] == 7 && shared[6] == 1 && shared[3 * MIB] == 1));
    }
    char byte;
    CHECK(read(up[0], &byte, 1) == 1);
    CHECK(shared[5] == 1);
    shared[6] = 8;
    shared[3 * MIB] = 8;
    CHECK(write(down[1], "x", 1) == 1);
    CHECK(went_well(child));
    CHECK(shared[5] == 1 && shared[6] == 8);
    munmap(shared, 4 * MIB);
    for (int i = 0; i < 2; i++) close(down[i]), close(up[i]);
}

static char *seen_by_clone;

static int in_clone(void *argument) {
    if (strcmp(argument, "hello")) return 1;
    memset(seen_by_clone, 2, MIB);
    void *at = malloc(300000);
    free(at);
    return !(at && all_are(seen_by_clone, MIB, 2));
}

static void clones_keep_apart(void) {
    seen_by_clone = fresh(MIB);
    memset(seen_by_clone, 1, MIB);
    char *stack = malloc(256 * 1024);
    pid_t child = clone(in_clone, stack + 256 * 1024, SIGCHLD, "hello");
    CHECK(child > 0 && went_well(child));
    CHECK(all_are(seen_by_clone, MIB, 1));
#if __GLIBC_PREREQ(2, 34)
    child = _Fork();
    if (child == 0) _exit(in_clone("hello"));
    CHECK(child > 0 && went_well(child));
    CHECK(all_are(seen_by_clone, MIB, 1));
#endif
    free(stack);
    munmap(seen_by_clone, MIB);
}

static void children_execute(void) {
    char *arguments[] = {"true", NULL};
    pid_t child = 0;
    CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0 && went_well(child));
    child = vfork();
    if (child == 0) {
        execvp("true", arguments);
        _exit(1);
    }
    CHECK(went_well(child));
    CHECK(system("exit 0") == 0);
}

static void libraries_load(void) {
    void *library = dlopen("libm.so.6", RTLD_NOW);
    CHECK(library != NULL);
    double (*cosine)(double) = (double (*)(double))dlsym(library, "cos");
    CHECK(cosine && cosine(0) == 1);
    CHECK(dlsym(library, "no such function") == NULL && dlerror() != NULL);
    dlclose(library);
}

static __thread char local[3000];

static void *use_local(void *argument) {
    memset(local, 1, sizeof local);
    free(malloc(100));
    return argument;
}

static void threads_come_and_go(void) {
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use_local, NULL) == 0);
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : NULL;
#define RUN(test) run(wanted, #test, test)
    RUN(early_memory_lives);
    RUN(sizes_of_all_sorts);
    RUN(calloc_is_zero_after_reuse);
    RUN(realloc_keeps_content);
    RUN(alignment_is_kept);
    RUN(too_much_is_refused);
    RUN(errno_is_left_alone);
    RUN(threads_free_each_others);
    RUN(handlers_allocate);
    RUN(forks_in_a_program_with_threads);
    RUN(parent_and_child_see_their_own);
    RUN(clones_keep_apart);
    RUN(children_execute);
    RUN(libraries_load);
    RUN(threads_come_and_go);
    return failures != 0;
}

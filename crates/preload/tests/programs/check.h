/* What the conformance programs share: checks that name themselves, and faults that are caught. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)

static int failures;
static int failed_here;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            printf("  %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            failed_here = 1;                                                          \
        }                                                                             \
    } while (0)

/* Runs one test; `wanted` is its name, or a minus and the name of another one, or null. */
static void run(const char *wanted, const char *name, void (*test)(void)) {
    int is_left_out = wanted && *wanted == '-';
    if (wanted && !is_left_out == !!strcmp(wanted + is_left_out, name)) return;
    failed_here = 0;
    test();
    printf("%s %s\n", failed_here ? "FAIL" : "ok", name);
    fflush(stdout);
    failures += failed_here;
}

static sigjmp_buf out_of_fault;

static void on_fault(int signal) {
    (void)signal;
    siglongjmp(out_of_fault, 1);
}

/* Whether reading (or writing) one byte raises SIGSEGV or SIGBUS. */
__attribute__((unused)) static int faults(volatile char *at, int writing) {
    struct sigaction catch = {.sa_handler = on_fault}, segv, bus;
    sigaction(SIGSEGV, &catch, &segv);
    sigaction(SIGBUS, &catch, &bus);
    int fault = sigsetjmp(out_of_fault, 1);
    if (!fault) {
        if (writing) *at = *at;
        else (void)*at;
    }
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    return fault;
}

static int all_are(const char *at, size_t len, char byte) {
    for (size_t i = 0; i < len; i++)
        if (at[i] != byte) return 0;
    return 1;
}

static char *fresh(size_t len) {
    char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

/* Waits for a child; whether it exited with 0. */
static int went_well(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

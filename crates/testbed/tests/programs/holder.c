// Memory with known content, written to all the while, that must survive being moved.
//
//   holder plain MIB     just that
//   holder pins MIB      its first 16 pages lie in a pipe (vmsplice), the next 16 are registered
//                        with an io_uring
//   holder hugetlb MIB   of the kernel's huge-page pool
//   holder fork MIB      a child shares it copy-on-write; the parent writes the first half only
//
// Says "ready" when everything is in place. On SIGTERM it checks all of it and says "intact N",
// N being how often each page was written, or "broken" and where.

#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PINNED = 16 };

static volatile sig_atomic_t ended;

static void end(int signal) {
    (void)signal;
    ended = 1;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t pattern(uint64_t page, uint64_t word) {
    return (page * WORDS + word) * 0x9e3779b97f4a7c15u;
}

static void fill(uint64_t *memory, uint64_t pages) {
    for (uint64_t page = 0; page < pages; page++) {
        memory[page * WORDS] = 0;
        for (uint64_t word = 1; word < WORDS; word++)
            memory[page * WORDS + word] = pattern(page, word);
    }
}

// The first word of a page counts; the others never change.
static void check(const uint64_t *memory, uint64_t from, uint64_t pages, uint64_t rounds) {
    for (uint64_t page = from; page < pages; page++) {
        if (memory[page * WORDS] != rounds) {
            printf("broken: page %lu was written %lu times, not %lu\n", (unsigned long)page,
                   (unsigned long)memory[page * WORDS], (unsigned long)rounds);
            exit(1);
        }
        for (uint64_t word = 1; word < WORDS; word++) {
            if (memory[page * WORDS + word] != pattern(page, word)) {
                printf("broken: page %lu, word %lu\n", (unsigned long)page, (unsigned long)word);
                exit(1);
            }
        }
    }
}

static void pin(uint64_t *memory) {
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe");
    struct iovec given = {.iov_base = memory, .iov_len = PINNED * PAGE};
    if (vmsplice(ends[1], &given, 1, 0) != PINNED * PAGE)
        fail("vmsplice");
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    int ring = (int)syscall(SYS_io_uring_setup, 8, &parameters);
    if (ring < 0)
        fail("io_uring_setup");
    struct iovec buffer = {.iov_base = memory + PINNED * WORDS, .iov_len = PINNED * PAGE};
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) != 0)
        fail("io_uring_register");
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: holder plain|hugetlb|pins|fork MIB\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t bytes = strtoull(words[2], NULL, 10) << 20, pages = bytes / PAGE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (strcmp(words[1], "hugetlb") == 0)
        flags |= MAP_HUGETLB;
    uint64_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    signal(SIGTERM, end);
    if (strcmp(words[1], "pins") == 0)
        madvise(memory, bytes, MADV_NOHUGEPAGE);
    fill(memory, pages);
    if (strcmp(words[1], "pins") == 0)
        pin(memory);
    uint64_t written = pages;
    pid_t child = -1;
    if (strcmp(words[1], "fork") == 0) {
        written = pages / 2;
        child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            while (!ended)
                usleep(10000);
            check(memory, 0, pages, 0);
            return 0;
        }
    }
    uint64_t rounds = 0;
    for (; !ended; rounds++) {
        for (uint64_t page = 0; page < written; page++)
            __atomic_fetch_add(&memory[page * WORDS], 1, __ATOMIC_SEQ_CST);
        if (rounds == 0)
            printf("ready\n");
    }
    check(memory, 0, written, rounds);
    check(memory, written, pages, 0);
    if (child > 0) {
        int status;
        kill(child, SIGTERM);
        if (waitpid(child, &status, 0) != child || status != 0) {
            printf("broken: the child ended with %d\n", status);
            return 1;
        }
    }
    printf("intact %lu\n", (unsigned long)rounds);
    return 0;
}

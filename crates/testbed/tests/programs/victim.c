// Memory with known content, of which a page goes bad while the program uses it.
//
//   victim MIB
//
// Says "ready PHYSICAL-ADDRESS" of a page in the middle when all is in place, and then reads
// everything again and again. When a page is lost it says "lost PAGE CODE" (of the SIGBUS), puts a
// fresh page there, and goes on, as a database with a copy elsewhere would. A page with anything
// else in it than what was written ends it. On SIGTERM it says "right PAGES lost PAGES".

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static volatile sig_atomic_t ended;
static sigjmp_buf bad;
static volatile int code;

static void end(int signal) {
    (void)signal;
    ended = 1;
}

static void on_bus(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    code = info->si_code;
    siglongjmp(bad, 1);
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t pattern(uint64_t page, uint64_t word) {
    return (page * WORDS + word + 1) * 0x9e3779b97f4a7c15u;
}

static void fill(uint64_t *memory, uint64_t page) {
    for (uint64_t word = 0; word < WORDS; word++)
        memory[page * WORDS + word] = pattern(page, word);
}

static void check(const volatile uint64_t *memory, uint64_t page) {
    for (uint64_t word = 0; word < WORDS; word++) {
        uint64_t found = memory[page * WORDS + word];
        if (found != pattern(page, word)) {
            printf("wrong: page %lu, word %lu: %#lx\n", (unsigned long)page, (unsigned long)word,
                   (unsigned long)found);
            exit(1);
        }
    }
}

// Frame numbers are in the lower 55 bits of a page's word (admin-guide/mm/pagemap.rst).
static uint64_t physical(const void *address) {
    uint64_t entry;
    int map = open("/proc/self/pagemap", O_RDONLY);
    off_t offset = (off_t)((uintptr_t)address / PAGE * sizeof entry);
    if (map < 0 || pread(map, &entry, sizeof entry, offset) != sizeof entry)
        fail("pagemap");
    close(map);
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

int main(int count, char **words) {
    if (count != 2) {
        fprintf(stderr, "usage: victim MIB\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t pages = (strtoull(words[1], NULL, 10) << 20) / PAGE;
    uint64_t *memory =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // A huge page goes as a whole when one of its pages is bad and cannot be split in time.
    if (memory == MAP_FAILED || madvise(memory, pages * PAGE, MADV_NOHUGEPAGE) != 0)
        fail("mmap");
    struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGBUS, &bus, NULL) != 0)
        fail("sigaction");
    signal(SIGTERM, end);
    for (uint64_t page = 0; page < pages; page++)
        fill(memory, page);
    printf("ready %#lx\n", (unsigned long)physical(memory + pages / 2 * WORDS));
    volatile uint64_t page, lost = 0, right;
    do {
        right = 0;
        for (page = 0; page < pages; page++) {
            if (sigsetjmp(bad, 1) == 0) {
                check(memory, page);
                right++;
                continue;
            }
            lost++;
            void *there = memory + page * WORDS;
            if (mmap(there, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                     -1, 0) != there)
                fail("mmap");
            fill(memory, page);
            printf("lost %lu %d\n", (unsigned long)page, code);
        }
    } while (!ended);
    printf("right %lu lost %lu\n", (unsigned long)right, (unsigned long)lost);
    return 0;
}

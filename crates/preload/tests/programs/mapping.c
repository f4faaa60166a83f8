/* The mmap family: what private anonymous memory does, whoever provides it. */
#include "check.h"
#include <fcntl.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static void fresh_memory_is_zero(void) {
    for (size_t len = PAGE; len <= 8 * MIB; len *= 2) {
        char *at = fresh(len);
        CHECK(all_are(at, len, 0));
        memset(at, 0x5a, len);
        CHECK(munmap(at, len) == 0);
    }
    char *at = fresh(8 * MIB);
    CHECK(all_are(at, 8 * MIB, 0));
    munmap(at, 8 * MIB);
}

static void odd_lengths_are_rounded_up(void) {
    char *at = fresh(MIB + 1);
    at[MIB + PAGE - 1] = 1;
    CHECK(munmap(at, MIB + 1) == 0);
    CHECK(faults(at + MIB, 0));
}

static void nonsense_is_refused(void) {
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, MIB, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, SIZE_MAX - PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
          && errno == ENOMEM);
    char *at = fresh(MIB);
    CHECK(munmap(at + 1, PAGE) == -1 && errno == EINVAL);
    CHECK(munmap(at, 0) == -1 && errno == EINVAL);
    CHECK(mprotect(at + 1, PAGE, PROT_READ) == -1 && errno == EINVAL);
    CHECK(mprotect(at, 0, PROT_READ) == 0);
    CHECK(madvise(at + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    CHECK(madvise(at, PAGE, 9999) == -1 && errno == EINVAL);
    CHECK(madvise(at, PAGE, MADV_REMOVE) == -1 && errno == EINVAL);
    CHECK(madvise(at, 0, MADV_DONTNEED) == 0);
    munmap(at, MIB);
}

static void parts_can_be_unmapped(void) {
    char *at = fresh(8 * MIB);
    memset(at, 1, 8 * MIB);
    CHECK(munmap(at + 3 * MIB + PAGE, MIB) == 0);
    CHECK(faults(at + 3 * MIB + PAGE, 0));
    CHECK(faults(at + 4 * MIB, 1));
    CHECK(all_are(at, 3 * MIB + PAGE, 1));
    CHECK(all_are(at + 4 * MIB + PAGE, 4 * MIB - PAGE, 1));
    /* Again, across the hole: no error. */
    CHECK(munmap(at, 8 * MIB) == 0);
    CHECK(munmap(at, 8 * MIB) == 0);
    CHECK(faults(at, 0));
}

static void what_is_freed_comes_back_as_zero(void) {
    for (int round = 0; round < 50; round++) {
        size_t len = 128 * 1024 + (size_t)(round % 7) * 300 * 1024;
        char *at = fresh(len);
        CHECK(all_are(at, len, 0));
        memset(at, 0xff, len);
        if (round % 3 == 0) CHECK(mprotect(at, len, PROT_NONE) == 0);
        if (round % 3 == 1) CHECK(mprotect(at, len, PROT_READ) == 0);
        CHECK(munmap(at, len) == 0);
    }
}

static void dontneed_zeroes(void) {
    char *at = fresh(6 * MIB);
    memset(at, 7, 6 * MIB);
    CHECK(madvise(at + PAGE, 3 * MIB, MADV_DONTNEED) == 0);
    CHECK(all_are(at, PAGE, 7));
    CHECK(all_are(at + PAGE, 3 * MIB, 0));
    CHECK(all_are(at + PAGE + 3 * MIB, 3 * MIB - PAGE, 7));
    memset(at, 9, 6 * MIB);
    CHECK(all_are(at, 6 * MIB, 9));
    mprotect(at, 6 * MIB, PROT_READ);
    CHECK(madvise(at, 6 * MIB, MADV_DONTNEED) == 0);
    CHECK(all_are(at, 6 * MIB, 0));
    munmap(at, 6 * MIB);
}

static void advice_works(void) {
    char *at = fresh(4 * MIB);
    memset(at, 3, 4 * MIB);
    int hints[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTDUMP,
                   MADV_DODUMP, MADV_COLD, MADV_HUGEPAGE, MADV_NOHUGEPAGE};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        CHECK(madvise(at + PAGE, 2 * MIB, hints[i]) == 0);
    CHECK(all_are(at, 4 * MIB, 3));
    CHECK(madvise(at, MIB, MADV_FREE) == 0);
    memset(at, 4, MIB);
    CHECK(all_are(at, MIB, 4));
    CHECK(madvise(at, 4 * MIB, 23 /* MADV_POPULATE_WRITE */) == 0);
    CHECK(all_are(at + MIB, 3 * MIB, 3));
    munmap(at + 2 * MIB, MIB);
    CHECK(madvise(at, 4 * MIB, MADV_DONTNEED) == -1 && errno == ENOMEM);
    CHECK(all_are(at, 2 * MIB, 0) && all_are(at + 3 * MIB, MIB, 0));
    munmap(at, 4 * MIB);
}

static void parts_can_be_protected(void) {
    char *at = fresh(4 * MIB);
    memset(at, 5, 4 * MIB);
    CHECK(mprotect(at + MIB, PAGE, PROT_NONE) == 0);
    CHECK(mprotect(at + 2 * MIB, MIB, PROT_READ) == 0);
    CHECK(faults(at + MIB, 0));
    CHECK(!faults(at + MIB + PAGE, 1));
    CHECK(!faults(at + 2 * MIB, 0));
    CHECK(faults(at + 3 * MIB - 1, 1));
    CHECK(mprotect(at, 4 * MIB, PROT_READ | PROT_WRITE) == 0);
    CHECK(all_are(at, 4 * MIB, 5));
    munmap(at + MIB, MIB);
    CHECK(mprotect(at, 4 * MIB, PROT_READ) == -1 && errno == ENOMEM);
    CHECK(faults(at, 1));
    munmap(at, 4 * MIB);
}

static void reservations_become_memory(void) {
    char *at = mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    CHECK(faults(at + 5 * MIB, 0));
    CHECK(mprotect(at + 5 * MIB, MIB, PROT_READ | PROT_WRITE) == 0);
    CHECK(all_are(at + 5 * MIB, MIB, 0));
    memset(at + 5 * MIB, 1, MIB);
    CHECK(faults(at + 6 * MIB, 0));
    munmap(at, 64 * MIB);
    at = mmap(NULL, (size_t)64 << 30, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    if (at == MAP_FAILED) return;
    for (size_t i = 0; i < 64; i += 9) at[i << 30] = 1;
    CHECK(at[9ul << 30] == 1 && at[10ul << 30] == 0);
    CHECK(munmap(at, (size_t)64 << 30) == 0);
}

static void code_can_run(void) {
#if defined(__x86_64__)
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    char *at = fresh(MIB);
    memcpy(at + 3 * PAGE, code, sizeof code);
    CHECK(mprotect(at, MIB, PROT_READ | PROT_EXEC) == 0);
    CHECK(((int (*)(void))(void *)(at + 3 * PAGE))() == 42);
    munmap(at, MIB);
#endif
}

static void fixed_replaces_a_part(void) {
    char *at = fresh(6 * MIB);
    memset(at, 8, 6 * MIB);
    char *again = mmap(at + MIB, 3 * MIB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(again == at + MIB);
    CHECK(all_are(at, MIB, 8) && all_are(again, 3 * MIB, 0) && all_are(at + 4 * MIB, 2 * MIB, 8));
    again = mmap(at + MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == MAP_FAILED && errno == EEXIST);
    munmap(at + MIB, PAGE);
    again = mmap(at + MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == at + MIB);
    CHECK(faults(at + MIB, 1) && !faults(at + MIB, 0));
    munmap(at, 6 * MIB);
}

static void files_fit_into_a_part(void) {
    int fd = memfd_create("file", 0);
    char text[PAGE];
    memset(text, 'f', PAGE);
    for (int i = 0; i < 4; i++) CHECK(write(fd, text, PAGE) == (ssize_t)PAGE);
    char *at = fresh(6 * MIB);
    memset(at, 2, 6 * MIB);
    char *part = mmap(at + MIB, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    CHECK(part == at + MIB);
    CHECK(all_are(part, 4 * PAGE, 'f'));
    part[5] = 'g';
    char byte = 0;
    CHECK(pread(fd, &byte, 1, 5) == 1 && byte == 'g');
    CHECK(all_are(at, MIB, 2) && all_are(part + 4 * PAGE, 5 * MIB - 4 * PAGE, 2));
    CHECK(mprotect(part, PAGE, PROT_READ) == 0 && faults(part, 1) && !faults(part + PAGE, 1));
    CHECK(munmap(part, 4 * PAGE) == 0);
    CHECK(faults(part, 0));
    part = mmap(at + MIB, 4 * PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(part == at + MIB && all_are(part, 4 * PAGE, 0));
    CHECK(munmap(at, 6 * MIB) == 0);
    at = fresh(6 * MIB);
    CHECK(all_are(at, 6 * MIB, 0));
    munmap(at, 6 * MIB);
    close(fd);
}

static void remap_shrinks(void) {
    char *at = fresh(4 * MIB);
    memset(at, 6, 4 * MIB);
    CHECK(mremap(at, 4 * MIB, MIB, 0) == at);
    CHECK(all_are(at, MIB, 6) && faults(at + MIB, 0));
    munmap(at, MIB);
}

static void remap_grows(void) {
    char *at = fresh(3 * MIB);
    memset(at, 6, 3 * MIB);
    char *grown = mremap(at, 3 * MIB, 9 * MIB, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    CHECK(all_are(grown, 3 * MIB, 6) && all_are(grown + 3 * MIB, 6 * MIB, 0));
    if (grown != at) CHECK(faults(at, 0));
    /* Something lies behind the first part. */
    CHECK(mprotect(grown + 5 * MIB, 4 * MIB, PROT_READ) == 0);
    memset(grown, 7, 5 * MIB);
    CHECK(mremap(grown, 5 * MIB, 8 * MIB, 0) == MAP_FAILED && errno == ENOMEM);
    char *moved = mremap(grown, 5 * MIB, 8 * MIB, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved != grown);
    CHECK(all_are(moved, 5 * MIB, 7) && all_are(moved + 5 * MIB, 3 * MIB, 0));
    CHECK(faults(grown, 0) && !faults(grown + 5 * MIB, 0));
    munmap(moved, 8 * MIB);
    munmap(grown + 5 * MIB, 4 * MIB);
}

static void remap_moves_to_a_place(void) {
    char *at = fresh(5 * MIB), *to = fresh(8 * MIB);
    memset(at, 1, 5 * MIB);
    memset(to, 2, 8 * MIB);
    CHECK(mremap(at, 5 * MIB, 5 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, to + MIB) == to + MIB);
    CHECK(faults(at, 0));
    CHECK(all_are(to, MIB, 2) && all_are(to + MIB, 5 * MIB, 1) && all_are(to + 6 * MIB, 2 * MIB, 2));
    munmap(to, 8 * MIB);
    /* Between small mappings and large ones, both ways. */
    char *small = fresh(2 * PAGE), *large = fresh(4 * MIB);
    memset(small, 3, 2 * PAGE);
    memset(large, 4, 4 * MIB);
    CHECK(mremap(small, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, large + MIB) == large + MIB);
    CHECK(all_are(large + MIB, 2 * PAGE, 3) && all_are(large, MIB, 4));
    CHECK(munmap(large + MIB, 2 * PAGE) == 0);
    char *other = mmap(NULL, MIB, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(large, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
    CHECK(all_are(other, MIB, 4) && faults(large, 0));
    other[0] = 5;
    munmap(other, MIB);
    munmap(large, 4 * MIB);
}

static void remap_leaves_the_old_place_empty(void) {
    char *at = fresh(3 * MIB);
    memset(at, 9, 3 * MIB);
    char *to = mremap(at, 3 * MIB, 3 * MIB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    CHECK(to != MAP_FAILED && to != at);
    CHECK(all_are(to, 3 * MIB, 9) && all_are(at, 3 * MIB, 0));
    munmap(at, 3 * MIB);
    munmap(to, 3 * MIB);
}

static void remap_keeps_protections(void) {
    char *at = fresh(4 * MIB);
    memset(at, 9, 3 * MIB);
    CHECK(mprotect(at, 3 * MIB, PROT_NONE) == 0);
    char *to = mremap(at, 3 * MIB, 5 * MIB, MREMAP_MAYMOVE);
    CHECK(to != MAP_FAILED && faults(to, 0) && faults(to + 4 * MIB, 0));
    CHECK(mprotect(to, 5 * MIB, PROT_READ) == 0);
    CHECK(all_are(to, 3 * MIB, 9) && all_are(to + 3 * MIB, 2 * MIB, 0) && faults(to, 1));
    munmap(to, 5 * MIB);
    munmap(at + 3 * MIB, MIB);
}

static void remap_refuses_nonsense(void) {
    char *at = fresh(2 * MIB);
    CHECK(mremap(at, 0, MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at, MIB, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at + 1, MIB, MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at, MIB, MIB, MREMAP_FIXED, at + MIB) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at, MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(at, MIB, MIB, 64) == MAP_FAILED && errno == EINVAL);
    munmap(at, 2 * MIB);
    CHECK(mremap(at, MIB, 2 * MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
}

static void locks_hold(void) {
    char *at = fresh(4 * MIB);
    memset(at, 1, 4 * MIB);
    CHECK(mlock(at + MIB + 5, MIB) == 0);
    CHECK(madvise(at + MIB, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    CHECK(munlock(at + MIB, MIB + PAGE) == 0);
    CHECK(madvise(at + MIB, PAGE, MADV_DONTNEED) == 0);
    CHECK(all_are(at + MIB, PAGE, 0) && all_are(at, MIB, 1));
    CHECK(mlock2(at, 4 * MIB, MLOCK_ONFAULT) == 0);
    CHECK(mlock2(at, MIB, 8) == -1 && errno == EINVAL);
    CHECK(munmap(at + MIB, MIB) == 0);
    CHECK(mlock(at, 4 * MIB) == -1 && errno == ENOMEM);
    CHECK(munmap(at, 4 * MIB) == 0);
    at = mmap(NULL, 3 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    CHECK(at != MAP_FAILED && all_are(at, 3 * MIB, 0));
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    CHECK(munmap(at, 3 * MIB) == 0);
    at = mmap(NULL, 3 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(at != MAP_FAILED && all_are(at, 3 * MIB, 0));
    unsigned char in[768];
    CHECK(mincore(at, 3 * MIB, in) == 0 && (in[0] & 1) && (in[767] & 1));
    munmap(at, 3 * MIB);
}

static void locking_all_works(void) {
    char *at = fresh(2 * MIB);
    memset(at, 1, 2 * MIB);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        CHECK(errno == ENOMEM || errno == EPERM);
        munmap(at, 2 * MIB);
        return;
    }
    char *later = fresh(MIB);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    CHECK(madvise(later, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    CHECK(munlockall() == 0);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0);
    munmap(at, 2 * MIB);
    munmap(later, MIB);
}

static void forks_heed_advice(void) {
    char *gone = fresh(2 * MIB), *wiped = fresh(2 * MIB), *kept = fresh(2 * MIB);
    memset(gone, 1, 2 * MIB);
    memset(wiped, 1, 2 * MIB);
    memset(kept, 1, 2 * MIB);
    CHECK(madvise(gone, 2 * MIB, MADV_DONTFORK) == 0);
    CHECK(madvise(wiped, 2 * MIB, MADV_WIPEONFORK) == 0);
    CHECK(all_are(gone, 2 * MIB, 1) && all_are(wiped, 2 * MIB, 1));
    pid_t child = fork();
    if (child == 0)
        _exit(!(faults(gone, 0) && all_are(wiped, 2 * MIB, 0) && all_are(kept, 2 * MIB, 1)));
    CHECK(went_well(child));
    CHECK(all_are(gone, 2 * MIB, 1) && all_are(wiped, 2 * MIB, 1));
    CHECK(madvise(gone, 2 * MIB, MADV_DOFORK) == 0);
    CHECK(madvise(wiped, 2 * MIB, MADV_KEEPONFORK) == 0);
    child = fork();
    if (child == 0) _exit(!(all_are(gone, 2 * MIB, 1) && all_are(wiped, 2 * MIB, 1)));
    CHECK(went_well(child));
    munmap(gone, 2 * MIB);
    munmap(wiped, 2 * MIB);
    munmap(kept, 2 * MIB);
    gone = fresh(6 * MIB);
    CHECK(all_are(gone, 6 * MIB, 0));
    munmap(gone, 6 * MIB);
}

static void the_kernel_reads_and_writes_it(void) {
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    char *from = fresh(MIB), *to = fresh(MIB);
    memset(from, 'k', 60000);
    CHECK(write(pipes[1], from, 60000) == 60000);
    CHECK(read(pipes[0], to + MIB / 2, 60000) == 60000);
    CHECK(all_are(to + MIB / 2, 60000, 'k'));
    munmap(from, MIB);
    munmap(to, MIB);
    close(pipes[0]);
    close(pipes[1]);
}

/* Random calls against a model of one byte per page. */
static void random_calls_agree_with_a_model(void) {
    enum { PAGES = 2048 };
    char *base = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static unsigned char model[PAGES];
    static signed char prot[PAGES]; /* -1: unmapped */
    memset(model, 0, sizeof model);
    memset(prot, PROT_READ | PROT_WRITE, sizeof prot);
    srandom(4711);
    for (int step = 0; step < 4000; step++) {
        size_t first = (size_t)random() % PAGES;
        size_t count = 1 + (size_t)random() % (random() % 4 ? 40 : PAGES);
        if (first + count > PAGES) count = PAGES - first;
        char *at = base + first * PAGE;
        switch (random() % 6) {
        case 0:
            CHECK(munmap(at, count * PAGE) == 0);
            memset(prot + first, -1, count);
            memset(model + first, 0, count);
            break;
        case 1: {
            int p = random() % 2 ? PROT_READ | PROT_WRITE : PROT_NONE;
            CHECK(mmap(at, count * PAGE, p, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
            memset(prot + first, p, count);
            memset(model + first, 0, count);
            break;
        }
        case 2: {
            int p = (int)(random() % 4);
            if (p == PROT_WRITE) p |= PROT_READ;
            size_t mapped = 0;
            while (mapped < count && prot[first + mapped] >= 0) mapped++;
            int result = mprotect(at, count * PAGE, p);
            CHECK(result == (mapped == count ? 0 : -1));
            memset(prot + first, p, mapped);
            break;
        }
        case 3: {
            int whole = 1;
            for (size_t i = first; i < first + count; i++) {
                if (prot[i] < 0) whole = 0;
                model[i] = 0;
            }
            CHECK(madvise(at, count * PAGE, MADV_DONTNEED) == (whole ? 0 : -1));
            break;
        }
        default:
            for (size_t i = first; i < first + count; i++)
                if (prot[i] >= 0 && prot[i] & PROT_WRITE) {
                    model[i] = (unsigned char)(1 + random() % 255);
                    base[i * PAGE] = base[i * PAGE + PAGE - 1] = (char)model[i];
                }
        }
    }
    for (size_t i = 0; i < PAGES; i++) {
        char *page = base + i * PAGE;
        if (prot[i] <= 0) {
            CHECK(faults(page, 0));
            continue;
        }
        CHECK((unsigned char)page[0] == model[i] && (unsigned char)page[PAGE - 1] == model[i]);
        CHECK(faults(page, 1) == !(prot[i] & PROT_WRITE));
    }
    munmap(base, PAGES * PAGE);
}

static void *map_and_unmap(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    for (int i = 0; i < 300; i++) {
        size_t len = (1 + (size_t)rand_r(&state) % 8) * 300 * 1024;
        char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return "mmap";
        for (size_t p = 0; p < len; p += 16 * PAGE) {
            if (at[p]) return "not zero";
            at[p] = 1;
        }
        if (i % 2) mprotect(at, 64 * PAGE, PROT_NONE);
        if (munmap(at, len)) return "munmap";
    }
    return NULL;
}

static void threads_map_at_once(void) {
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++) pthread_create(&threads[i], NULL, map_and_unmap, (void *)(i + 1));
    for (int i = 0; i < 8; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        if (wrong) printf("  %s\n", (char *)wrong);
        CHECK(wrong == NULL);
    }
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : NULL;
#define RUN(test) run(wanted, #test, test)
    RUN(fresh_memory_is_zero);
    RUN(odd_lengths_are_rounded_up);
    RUN(nonsense_is_refused);
    RUN(parts_can_be_unmapped);
    RUN(what_is_freed_comes_back_as_zero);
    RUN(dontneed_zeroes);
    RUN(advice_works);
    RUN(parts_can_be_protected);
    RUN(reservations_become_memory);
    RUN(code_can_run);
    RUN(fixed_replaces_a_part);
    RUN(files_fit_into_a_part);
    RUN(remap_shrinks);
    RUN(remap_grows);
    RUN(remap_moves_to_a_place);
    RUN(remap_leaves_the_old_place_empty);
    RUN(remap_keeps_protections);
    RUN(remap_refuses_nonsense);
    RUN(locks_hold);
    RUN(locking_all_works);
    RUN(forks_heed_advice);
    RUN(the_kernel_reads_and_writes_it);
    RUN(random_calls_agree_with_a_model);
    RUN(threads_map_at_once);
    return failures != 0;
}

/* What a device writes by reference into the program's memory arrives.
 *
 * Reads a file of known content past the page cache into buffers in mapped and malloc'ed memory,
 * again and again, and verifies every read. --file PATH: made and removed by the program; its
 * file system must know O_DIRECT. --mode:
 *
 *   sync    pread from --threads threads
 *   uring   io_uring by raw system calls, with registered buffers and plain ones in turn
 *   aio     io_setup and io_submit by raw system calls
 *
 * On SIGUSR1 the program closes file and rings, says CLOSED, and goes on using its memory.
 */
#include "victim.h"
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sys/uio.h>

#define READ_BYTES (64UL * 1024)
#define FILE_BLOCKS 256UL /* 16 MiB */
#define DEPTH 16U

static int file = -1;
static uint8_t *buffers[2]; /* mapped, malloc'ed */
static size_t slots;        /* of READ_BYTES, over both */
static atomic_bool close_asked;
static atomic_ulong reads_done;

static uint8_t *buffer_at(size_t s) { return buffers[s % 2] + s / 2 * READ_BYTES; }

static void on_signal(int unused) {
    (void)unused;
    atomic_store(&close_asked, true);
}
static bool done(void) { return time_is_up() || atomic_load(&close_asked); }

static void make_file(void) {
    int fd = open(opt_file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0, "%s: %s", opt_file, strerror(errno));
    uint64_t *block = malloc(READ_BYTES);
    for (uint64_t b = 0; b < FILE_BLOCKS; b++) {
        fill_pattern(block, READ_BYTES, b + opt_seed);
        CHECK(write(fd, block, READ_BYTES) == (ssize_t)READ_BYTES, "write: %s", strerror(errno));
    }
    free(block);
    fsync(fd);
    close(fd);
    file = open(opt_file, O_RDONLY | O_DIRECT);
    if (file < 0 && errno == EINVAL) {
        say("UNSUPPORTED O_DIRECT on %s", opt_file);
        exit(77);
    }
    CHECK(file >= 0, "%s: %s", opt_file, strerror(errno));
    unlink(opt_file);
}

static void poison(uint8_t *at) {
    for (size_t i = 0; i < READ_BYTES; i += 512) *(volatile uint64_t *)(at + i) = 0xdead;
}

static void verify_read(size_t s, uint64_t block) {
    long wrong = find_wrong(buffer_at(s), READ_BYTES, block + opt_seed);
    CHECK(wrong < 0, "%s: slot %zu, word %ld is not what the file holds", opt_mode, s, wrong);
    atomic_fetch_add(&reads_done, 1);
}

/* ---- pread --------------------------------------------------------------------------------- */

static void *sync_main(void *argument) {
    unsigned thread = (unsigned)(uintptr_t)argument;
    uint64_t random = mix64(opt_seed * 100 + thread);
    watch(thread);
    while (!done()) {
        size_t s = next_random(&random) % (slots / opt_threads) * opt_threads + thread;
        uint64_t block = next_random(&random) % FILE_BLOCKS;
        poison(buffer_at(s));
        ssize_t n = pread(file, buffer_at(s), READ_BYTES, (off_t)(block * READ_BYTES));
        CHECK(n == (ssize_t)READ_BYTES, "pread gave %zd: %s", n, strerror(errno));
        verify_read(s, block);
        beat(thread);
    }
    unwatch(thread);
    return NULL;
}

static void run_sync(void) {
    pthread_t threads[64];
    for (unsigned t = 0; t < opt_threads; t++)
        CHECK(!pthread_create(&threads[t], NULL, sync_main, (void *)(uintptr_t)t), "thread");
    for (unsigned t = 0; t < opt_threads; t++) pthread_join(threads[t], NULL);
}

/* ---- io_uring ------------------------------------------------------------------------------ */

static struct {
    int fd;
    atomic_uint *sq_tail, *cq_head, *cq_tail;
    unsigned *sq_array, sq_mask, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static void open_ring(void) {
    struct io_uring_params p = {0};
    ring.fd = (int)syscall(SYS_io_uring_setup, DEPTH, &p);
    if (ring.fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        say("UNSUPPORTED io_uring: %s", strerror(errno));
        exit(77);
    }
    CHECK(ring.fd >= 0, "io_uring_setup: %s", strerror(errno));
    size_t bytes = p.sq_off.array + p.sq_entries * 4UL;
    size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    if (cq_bytes > bytes) bytes = cq_bytes;
    CHECK(p.features & IORING_FEAT_SINGLE_MMAP, "kernel too old");
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0);
    ring.sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                     MAP_SHARED, ring.fd, IORING_OFF_SQES);
    CHECK(at != MAP_FAILED && ring.sqes != MAP_FAILED, "mmap of the ring: %s", strerror(errno));
    ring.sq_tail = (atomic_uint *)(at + p.sq_off.tail);
    ring.cq_head = (atomic_uint *)(at + p.cq_off.head);
    ring.cq_tail = (atomic_uint *)(at + p.cq_off.tail);
    ring.sq_mask = *(unsigned *)(at + p.sq_off.ring_mask);
    ring.cq_mask = *(unsigned *)(at + p.cq_off.ring_mask);
    ring.sq_array = (unsigned *)(at + p.sq_off.array);
    ring.cqes = (struct io_uring_cqe *)(at + p.cq_off.cqes);
}

/* The first DEPTH slots are registered: the kernel holds their pages until the ring closes. */
static void register_buffers(void) {
    struct iovec vectors[DEPTH];
    for (unsigned i = 0; i < DEPTH; i++) vectors[i] = (struct iovec){buffer_at(i), READ_BYTES};
    CHECK(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, vectors, DEPTH) == 0,
          "registering buffers: %s", strerror(errno));
}

static void run_uring(void) {
    open_ring();
    register_buffers();
    uint64_t random = opt_seed, blocks[DEPTH];
    size_t into[DEPTH];
    watch(0);
    while (!done()) {
        unsigned tail = atomic_load(ring.sq_tail);
        bool fixed = next_random(&random) & 1;
        for (unsigned i = 0; i < DEPTH; i++) {
            blocks[i] = next_random(&random) % FILE_BLOCKS;
            into[i] = fixed ? i : i + (1 + next_random(&random) % (slots / DEPTH - 1)) * DEPTH;
            poison(buffer_at(into[i]));
            struct io_uring_sqe *sqe = &ring.sqes[(tail + i) & ring.sq_mask];
            *sqe = (struct io_uring_sqe){
                .opcode = fixed ? IORING_OP_READ_FIXED : IORING_OP_READ,
                .fd = file,
                .off = blocks[i] * READ_BYTES,
                .addr = (uintptr_t)buffer_at(into[i]),
                .len = READ_BYTES,
                .user_data = i,
                .buf_index = fixed ? (uint16_t)i : 0,
            };
            ring.sq_array[(tail + i) & ring.sq_mask] = (tail + i) & ring.sq_mask;
        }
        atomic_store(ring.sq_tail, tail + DEPTH);
        long n = syscall(SYS_io_uring_enter, ring.fd, DEPTH, DEPTH, IORING_ENTER_GETEVENTS, NULL,
                         0);
        CHECK(n == DEPTH || errno == EINTR, "io_uring_enter: %ld %s", n, strerror(errno));
        for (unsigned got = 0; got < DEPTH;) {
            unsigned head = atomic_load(ring.cq_head);
            if (head == atomic_load(ring.cq_tail)) {
                syscall(SYS_io_uring_enter, ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
                continue;
            }
            struct io_uring_cqe cqe = ring.cqes[head & ring.cq_mask];
            atomic_store(ring.cq_head, head + 1);
            CHECK(cqe.res == (int)READ_BYTES, "io_uring read gave %d", cqe.res);
            verify_read(into[cqe.user_data], blocks[cqe.user_data]);
            got++;
        }
        beat(0);
    }
    unwatch(0);
    /* The mappings keep the ring alive as much as the descriptor does. */
    munmap(ring.sqes, DEPTH * sizeof(struct io_uring_sqe));
    close(ring.fd);
}

/* ---- Linux AIO ----------------------------------------------------------------------------- */

static void run_aio(void) {
    aio_context_t context = 0;
    CHECK(syscall(SYS_io_setup, DEPTH, &context) == 0, "io_setup: %s", strerror(errno));
    uint64_t random = opt_seed, blocks[DEPTH];
    size_t into[DEPTH];
    watch(0);
    while (!done()) {
        struct iocb requests[DEPTH], *list[DEPTH];
        for (unsigned i = 0; i < DEPTH; i++) {
            blocks[i] = next_random(&random) % FILE_BLOCKS;
            into[i] = i + next_random(&random) % (slots / DEPTH) * DEPTH;
            poison(buffer_at(into[i]));
            requests[i] = (struct iocb){
                .aio_data = i,
                .aio_lio_opcode = IOCB_CMD_PREAD,
                .aio_fildes = (uint32_t)file,
                .aio_buf = (uintptr_t)buffer_at(into[i]),
                .aio_nbytes = READ_BYTES,
                .aio_offset = (int64_t)(blocks[i] * READ_BYTES),
            };
            list[i] = &requests[i];
        }
        long n = syscall(SYS_io_submit, context, (long)DEPTH, list);
        CHECK(n == (long)DEPTH, "io_submit: %ld %s", n, strerror(errno));
        struct io_event events[DEPTH];
        for (unsigned got = 0; got < DEPTH;) {
            n = syscall(SYS_io_getevents, context, 1L, (long)DEPTH, events, NULL);
            CHECK(n > 0 || errno == EINTR, "io_getevents: %ld %s", n, strerror(errno));
            for (long i = 0; i < n; i++) {
                CHECK(events[i].res == (int64_t)READ_BYTES, "aio read gave %lld",
                      (long long)events[i].res);
                verify_read(into[events[i].data], blocks[events[i].data]);
            }
            if (n > 0) got += (unsigned)n;
        }
        beat(0);
    }
    unwatch(0);
    CHECK(syscall(SYS_io_destroy, context) == 0, "io_destroy: %s", strerror(errno));
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    if (!*opt_mode) opt_mode = "sync";
    CHECK(*opt_file, "--file is missing");
    signal(SIGUSR1, on_signal);
    size_t half = opt_mib * MIB / 2;
    buffers[0] = map_anonymous(half);
    CHECK(posix_memalign((void **)&buffers[1], PAGE, half) == 0 && buffers[0], "out of memory");
    slots = half / READ_BYTES * 2 / DEPTH * DEPTH;
    CHECK(slots >= 2 * DEPTH, "--mib too small");
    for (unsigned i = 0; i < 2; i++) memset(buffers[i], 0, half);
    make_file();
    say("READY pid=%d mode=%s", getpid(), opt_mode);
    start_watchdog();
    start_clock();
    if (!strcmp(opt_mode, "sync")) run_sync();
    else if (!strcmp(opt_mode, "uring")) run_uring();
    else if (!strcmp(opt_mode, "aio")) run_aio();
    else FAIL("unknown --mode %s", opt_mode);
    close(file);
    say("CLOSED reads=%lu", atomic_load(&reads_done));
    for (uint64_t round = opt_seed; !time_is_up(); round++) {
        for (unsigned i = 0; i < 2; i++) fill_pattern(buffers[i], half, round + i);
        for (unsigned i = 0; i < 2; i++)
            CHECK(find_wrong(buffers[i], half, round + i) < 0, "lost write after closing");
    }
    say("VERDICT PASS reads=%lu", atomic_load(&reads_done));
    return 0;
}

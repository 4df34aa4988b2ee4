/* Shifts the wall clock of the process it is preloaded into and leaves the monotonic clock alone.
 *
 * The shift, in microseconds, is a native 64-bit integer in the file that WALL_CLOCK_SHIFT names. The file is mapped, so
 * whoever writes to it sets the clock of a running process. Without the variable nothing is shifted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t none;
static const volatile int64_t *shift = &none;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("WALL_CLOCK_SHIFT");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) shift = mapped;
    close(file);
}

static int64_t shifted_micros(int64_t seconds, int64_t micros) {
    return seconds * 1000000 + micros + *shift;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now) != 0) return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        int64_t micros = shifted_micros(now->tv_sec, now->tv_nsec / 1000);
        now->tv_nsec = micros % 1000000 * 1000 + now->tv_nsec % 1000;
        now->tv_sec = micros / 1000000;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    if (syscall(SYS_gettimeofday, now, zone) != 0) return -1;
    if (now != NULL) {
        int64_t micros = shifted_micros(now->tv_sec, now->tv_usec);
        now->tv_sec = micros / 1000000;
        now->tv_usec = micros % 1000000;
    }
    return 0;
}

time_t time(time_t *copy) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (copy != NULL) *copy = now.tv_sec;
    return now.tv_sec;
}

/* Some servers have a module look for a function in the C library first, past what is preloaded. Not here. */
void *dlopen(const char *path, int flags) {
    void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return next == NULL ? NULL : next(path, flags & ~RTLD_DEEPBIND);
}

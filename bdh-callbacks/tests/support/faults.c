/* A disk with faults: loaded before the C library, it makes calls on files below BDH_FAULT_DIR fail.
 *
 * BDH_FAULT_CALL  which call: write, fsync, rename or open (for writing)
 * BDH_FAULT_AT    which of those calls, from 1; 0 for none
 * BDH_FAULT_LAST  up to which of them, for faults that last
 * BDH_FAULT_ERRNO the error; 0 for a write that is short, or for nothing else
 * BDH_FAULT_COUNT a file that gets a byte for each of those calls
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int is_below(const char *path) {
    const char *dir = getenv("BDH_FAULT_DIR");
    return dir && path && strncmp(path, dir, strlen(dir)) == 0;
}

static int is_open_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Whether this call fails. */
static int is_struck(const char *call, int is_ours) {
    const char *which = getenv("BDH_FAULT_CALL");
    if (!is_ours || !which || strcmp(which, call) != 0) return 0;
    long now = atomic_fetch_add(&calls, 1) + 1;
    const char *count = getenv("BDH_FAULT_COUNT");
    if (count) {
        int (*really_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        ssize_t (*really_write)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        int fd = really_open(count, O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (fd >= 0 && really_write(fd, ".", 1) == 1) close(fd);
    }
    long at = number("BDH_FAULT_AT");
    return at > 0 && now >= at && now <= number("BDH_FAULT_LAST");
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*really)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (count > 0 && is_struck("write", is_open_below(fd))) {
        errno = (int)number("BDH_FAULT_ERRNO");
        if (errno) return -1;
        return really(fd, bytes, (count + 1) / 2);
    }
    return really(fd, bytes, count);
}

#define FAIL(call, ours)                             \
    if (is_struck(call, ours)) {                     \
        errno = (int)number("BDH_FAULT_ERRNO");      \
        if (errno) return -1;                        \
    }

int fsync(int fd) {
    int (*really)(int) = dlsym(RTLD_NEXT, "fsync");
    FAIL("fsync", is_open_below(fd));
    return really(fd);
}

int fdatasync(int fd) {
    int (*really)(int) = dlsym(RTLD_NEXT, "fdatasync");
    FAIL("fsync", is_open_below(fd));
    return really(fd);
}

int rename(const char *from, const char *to) {
    int (*really)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    FAIL("rename", is_below(to));
    return really(from, to);
}

#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        int (*really)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                \
        va_list rest;                                                                   \
        va_start(rest, flags);                                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;       \
        va_end(rest);                                                                   \
        FAIL("open", (flags & O_ACCMODE) != O_RDONLY && is_below(path));                \
        return really(path, flags, mode);                                               \
    }

OPEN(open)
OPEN(open64)

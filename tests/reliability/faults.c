/* Preloaded into a process: makes the n-th of its calls that write below a folder fail, or ends the process in it.

   Calls that count: open for writing, write, fsync, rename, mkdir. Faults are armed from Python, through ctypes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, ONCE, FROM, SHORT, KILL };

static char watched[PATH_MAX];
static int fault = NONE, number_of_error, seen, at;
static char met[PATH_MAX + 16];

/* Watch a folder; the call with this number is met by the fault. */
void arm(const char *folder, int kind, int error, int call) {
    snprintf(watched, sizeof watched, "%s", folder);
    fault = kind, number_of_error = error, at = call, seen = 0, met[0] = 0;
}
int calls(void) { return seen; }
/* The kind of call that was met, and its path. */
const char *met_at(void) { return met; }

static int below(const char *path) { return watched[0] && path && strncmp(path, watched, strlen(watched)) == 0; }

/* 0: do the call; 1: it fails, with errno set; 2: half of it is done; 3: half of it is done, then the process ends. */
static int meets(const char *call, const char *path) {
    if (!below(path)) return 0;
    seen++;
    if (fault == NONE || seen < at || (seen > at && fault != FROM)) return 0;
    if (!met[0]) snprintf(met, sizeof met, "%s %s", call, path);
    if (fault == KILL) return 3;
    if (fault == SHORT) return strcmp(call, "write") ? 0 : 2;
    errno = number_of_error;
    return 1;
}

static const char *path_of(int file) {
    static __thread char path[PATH_MAX];
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

#define REAL(name) \
    if (!real) real = dlsym(RTLD_NEXT, name)

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...) {                                      \
        static int (*real)(const char *, int, ...);                                   \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;       \
        va_end(more);                                                                 \
        int met_by = flags & (O_WRONLY | O_RDWR | O_CREAT) ? meets("open", path) : 0; \
        if (met_by == 1) return -1;                                                   \
        REAL(#name);                                                                  \
        int file = real(path, flags, mode);                                              \
        if (met_by == 3) kill(getpid(), SIGKILL);                                     \
        return file;                                                                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                  \
    int name(int folder, const char *path, int flags, ...) {                          \
        static int (*real)(int, const char *, int, ...);                              \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;       \
        va_end(more);                                                                 \
        int met_by = flags & (O_WRONLY | O_RDWR | O_CREAT) ? meets("open", path) : 0; \
        if (met_by == 1) return -1;                                                   \
        REAL(#name);                                                                  \
        int file = real(folder, path, flags, mode);                                      \
        if (met_by == 3) kill(getpid(), SIGKILL);                                     \
        return file;                                                                  \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *from, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    int met_by = watched[0] ? meets("write", path_of(file)) : 0;
    if (met_by == 1) return -1;
    if (met_by >= 2) count = count > 1 ? count / 2 : count;
    REAL("write");
    ssize_t done = real(file, from, count);
    if (met_by == 3) kill(getpid(), SIGKILL);
    return done;
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    int met_by = watched[0] ? meets("write", path_of(file)) : 0;
    if (met_by == 1) return -1;
    REAL("writev");
    ssize_t done = real(file, parts, met_by >= 2 && count > 1 ? count / 2 : count);
    if (met_by == 3) kill(getpid(), SIGKILL);
    return done;
}

#define SYNC(name)                                                    \
    int name(int file) {                                              \
        static int (*real)(int);                                      \
        int met_by = watched[0] ? meets("fsync", path_of(file)) : 0;  \
        if (met_by == 3) kill(getpid(), SIGKILL);                     \
        REAL(#name);                                                  \
        return met_by == 1 ? -1 : real(file);                         \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    int met_by = meets("rename", to);
    if (met_by == 1) return -1;
    if (met_by == 3 && at % 2) kill(getpid(), SIGKILL); /* before it, else after it */
    REAL("rename");
    int done = real(from, to);
    if (met_by == 3) kill(getpid(), SIGKILL);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    int met_by = meets("mkdir", path);
    if (met_by == 1) return -1;
    REAL("mkdir");
    int done = real(path, mode);
    if (met_by == 3) kill(getpid(), SIGKILL);
    return done;
}

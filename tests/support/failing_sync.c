/* Preloaded into a process: fsync and fdatasync fail with EIO while the file $SYNC_FAILS exists, and each call is
   written to $SYNC_LOG as "result path". A failed call does not reach the kernel: what it should have made durable
   isn't. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int told(const char *name, int fd) {
    char link[64], path[4096] = "?", line[4200];
    const char *fails = getenv("SYNC_FAILS"), *log = getenv("SYNC_LOG");
    int failing = fails && access(fails, F_OK) == 0, result = -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) path[length] = 0;
    if (!failing) result = ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
    int saved = failing ? EIO : errno, out = log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (out >= 0) {
        int count = snprintf(line, sizeof line, "%d %s\n", result, path);
        if (write(out, line, count) < 0) abort();
        close(out);
    }
    errno = saved;
    return result;
}

int fsync(int fd) { return told("fsync", fd); }
int fdatasync(int fd) { return told("fdatasync", fd); }

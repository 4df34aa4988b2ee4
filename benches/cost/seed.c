/* Has a server draw the same random numbers at every start: what it would read from /dev/urandom, it reads from the file that
 * COST_SEED names. Where commands stand in its hash tables depends on them, and so does what it costs to find one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *opened(const char *function, const char *path, const char *mode) {
    FILE *(*original)(const char *, const char *) = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, function);
    const char *seed = getenv("COST_SEED");
    if (seed && strcmp(path, "/dev/urandom") == 0) path = seed;
    return original(path, mode);
}

FILE *fopen(const char *path, const char *mode) {
    return opened("fopen", path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    return opened("fopen64", path, mode);
}

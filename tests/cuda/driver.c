/* A CUDA driver with one device that computes nothing: its memory is the host's, and of a launch it
   keeps what it was asked for. What it has no function for succeeds and does nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef void *Handle;
enum { SUCCESS, INVALID_IMAGE = 200, ARGUMENTS = 5 };
enum { PROCESSORS = 16, MAJOR = 75, MINOR = 76 }; /* attributes of a device */

static int context, stream, event, library, kernel;
static Handle current;

/* What the tests read. */
int launches;
char entry[1024];
struct { uint64_t grid, block, shared, stream, arguments[ARGUMENTS]; } last;

static Result nothing(void) { return SUCCESS; }

static Result set(Handle *to, void *value) {
    *to = value;
    return SUCCESS;
}

Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int number) { *device = number; return SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) { strncpy(name, "none", size); return SUCCESS; }
Result cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 1, 16); return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == PROCESSORS ? 132 : attribute == MAJOR ? 9 : attribute == MINOR ? 0 : 1;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(Handle *it, int device) { return set(it, &context); }
Result cuCtxGetCurrent(Handle *it) { return set(it, current); }
Result cuCtxSetCurrent(Handle it) { return set(&current, it); }
Result cuCtxPushCurrent(Handle it) { return set(&current, it); }
Result cuCtxPopCurrent(Handle *it) {
    if (it) *it = current;
    return set(&current, NULL);
}
Result cuCtxGetDevice(int *device) { *device = 0; return current ? SUCCESS : 201; }

Result cuMemGetInfo(size_t *free, size_t *total) { *free = *total = (size_t)1 << 34; return SUCCESS; }
Result cuMemAlloc(Handle *at, size_t size) { return set(at, aligned_alloc(512, (size + 511) & ~(size_t)511)); }
Result cuMemFree(Handle at) { free(at); return SUCCESS; }
Result cuMemcpyHtoD(Handle to, const void *from, size_t size) { memcpy(to, from, size); return SUCCESS; }
Result cuMemcpyDtoH(void *to, Handle from, size_t size) { memcpy(to, from, size); return SUCCESS; }
Result cuMemcpyHtoDAsync(Handle to, const void *from, size_t size, Handle on) { return cuMemcpyHtoD(to, from, size); }
Result cuMemcpyDtoHAsync(void *to, Handle from, size_t size, Handle on) { return cuMemcpyDtoH(to, from, size); }
Result cuPointerGetAttribute(int *value, int attribute, Handle at) { *value = 0; return SUCCESS; }

Result cuStreamCreate(Handle *it, unsigned flags) { return set(it, &stream); }
Result cuStreamGetCtx(Handle on, Handle *it) { return set(it, &context); }
Result cuEventCreate(Handle *it, unsigned flags) { return set(it, &event); }

Result cuLibraryLoadData(Handle *it, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m) {
    return memcmp(code, "\177ELF", 4) ? INVALID_IMAGE : set(it, &library);
}
Result cuLibraryGetKernel(Handle *it, Handle of, const char *name) {
    strncpy(entry, name, sizeof entry - 1);
    return set(it, &kernel);
}
Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared, Handle on, void **arguments, void **extra) {
    last.grid = gx * gy * gz, last.block = bx * by * bz, last.shared = shared, last.stream = (uint64_t)on;
    for (int i = 0; i < ARGUMENTS; i++) last.arguments[i] = *(uint64_t *)arguments[i];
    launches++;
    return function == &kernel ? SUCCESS : INVALID_IMAGE;
}
Result cuLaunchKernelEx(const unsigned *how, Handle function, void **arguments, void **extra) {
    Handle on;
    memcpy(&on, how + 8, sizeof on);
    return cuLaunchKernel(function, how[0], how[1], how[2], how[3], how[4], how[5], how[6], on, arguments, extra);
}

Result cuGetErrorName(Result error, const char **text) { *text = "ERROR"; return SUCCESS; }
Result cuGetErrorString(Result error, const char **text) { *text = "an error"; return SUCCESS; }
Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    static Handle self;
    Dl_info found;
    if (!self && dladdr((void *)cuDeviceGet, &found)) self = dlopen(found.dli_fname, RTLD_LAZY);
    *function = dlsym(self, strcmp(name, "cuGetProcAddress") ? name : "cuGetProcAddress_v2");
    if (!*function) *function = (void *)nothing;
    if (status) *status = 0;
    return SUCCESS;
}

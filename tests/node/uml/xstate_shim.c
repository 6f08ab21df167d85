/* Preloaded under user-mode-linux 6.1: its buffer for the processor's extended state is too small where there is AMX,
 * and the kernel refuses to set a part of it. This sets the whole, with the part that was given on top. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>
#include <sys/syscall.h>
#define XSTATE 0x202
long ptrace(enum __ptrace_request request, ...) {
  va_list args; va_start(args, request);
  pid_t pid = va_arg(args, pid_t); void *addr = va_arg(args, void *); void *data = va_arg(args, void *);
  va_end(args);
  if ((request == PTRACE_GETREGSET || request == PTRACE_SETREGSET) && (long)addr == XSTATE) {
    static unsigned char full[65536] __attribute__((aligned(64)));
    struct iovec *given = data, whole = {full, sizeof full};
    long r = syscall(SYS_ptrace, PTRACE_GETREGSET, (long)pid, addr, &whole);
    if (r < 0) return r;
    size_t n = given->iov_len < whole.iov_len ? given->iov_len : whole.iov_len;
    if (request == PTRACE_GETREGSET) { memcpy(given->iov_base, full, n); given->iov_len = n; return 0; }
    memcpy(full, given->iov_base, n);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, (long)pid, addr, &whole);
  }
  long ret; 
  if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
    long value; ret = syscall(SYS_ptrace, request, (long)pid, addr, &value); return ret < 0 ? ret : value;
  }
  return syscall(SYS_ptrace, request, (long)pid, addr, data);
}

"""Another moment for the clocks of children: libfaketime, which `.ci/run` installs."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")
# What waits by the monotonic clock, which is not shifted, goes to the C library past libfaketime: that would take the
# moments of Python's threads for shifted ones, and whoever waits for the interpreter's lock would not let the other go.
WAITS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    int before = errno, code = syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
    errno = before;
    return code;
}
static void *original(const char *name) { return dlvsym(dlopen("libc.so.6", RTLD_LAZY), name, "GLIBC_2.3.2"); }
int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes)
{
    static int (*real)(pthread_cond_t *, const pthread_condattr_t *);
    if (!real) real = original("pthread_cond_init");
    return real(cond, attributes);
}
int pthread_cond_destroy(pthread_cond_t *cond)
{
    static int (*real)(pthread_cond_t *);
    if (!real) real = original("pthread_cond_destroy");
    return real(cond);
}
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) real = original("pthread_cond_timedwait");
    return real(cond, mutex, until);
}
"""


def faked(moment: datetime, folder: Path) -> dict[str, str]:
    """Return the variables that let all children of a command live at another moment.

    A shift, not a moment: a moment would begin anew in each process.
    """
    found = next((path for library in LIBRARIES for path in Path("/").glob(library[1:])), None)
    compiler = shutil.which("cc")
    if found is None or compiler is None:
        pytest.skip("needs libfaketime and a C compiler: apt-get install faketime gcc libc6-dev")
    (folder / "waits.c").write_text(WAITS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "waits.so", folder / "waits.c"], check=True)
    shift = (moment - datetime.now(UTC)).total_seconds()
    return {
        "LD_PRELOAD": f"{folder / 'waits.so'}:{found}",
        "FAKETIME": f"{shift:+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

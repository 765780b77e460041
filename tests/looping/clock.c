/* Sets the clock of a program that is started with this in LD_PRELOAD: $CLOCK_OFFSET is a file with the seconds to add. The
   clock that nobody can set stays as it is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *at) {
  int done = (int)syscall(SYS_clock_gettime, id, at);
  const char *path = getenv("CLOCK_OFFSET");
  if (done != 0 || id != CLOCK_REALTIME || path == NULL) return done;
  char text[32] = {0};
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) > 0) at->tv_sec += atoll(text);
    close(file);
  }
  return 0;
}

/* dumps - for processes that hold secrets. Thread: any; call it at the start. */
#ifndef STET_DUMPS_H
#define STET_DUMPS_H

/* No core files, and no other process of the same user may look into this one: not by ptrace, not through
 * /proc/PID/mem or /proc/PID/environ. */
void stet_forbid_dumps(void);

#endif

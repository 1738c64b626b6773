/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The lease: until when this machine answers for its virtual addresses. The
 * daemon renews it, and its death ends it.
 */
#ifndef SYSTOLE_LEASE_H
#define SYSTOLE_LEASE_H

#include "maps.h"

#define LEASE_UNLIMITED (~0ULL)

/* Argument and answer of systole_lease. */
struct lease_args {
	__u64 ticks; /* jiffies from now; LEASE_UNLIMITED */
	__u64 now;   /* answer: jiffies */
	__u32 set;   /* 0: only ask for the time */
	__u32 pad;
};

/*
 * User space does not see jiffies, so the kernel itself sets the end of the
 * lease. `now >= lease_until` ends it: the jiffy that is now began in the past,
 * so it ends at the latest when asked for, at most one jiffy earlier.
 */
SEC("syscall")
int systole_lease(struct lease_args *args)
{
	struct state *s = get_state();
	__u64 now = bpf_jiffies64();

	args->now = now;
	if (!args->set)
		return 0;
	WRITE_ONCE(s->lease_until, args->ticks == LEASE_UNLIMITED ? LEASE_UNLIMITED : now + args->ticks);
	return 0;
}

/* The daemon's process, and the pid namespace in which that is its number. */
const volatile __u32 daemon_pid = 0;
const volatile __u64 daemon_pidns_dev = 0;
const volatile __u64 daemon_pidns_ino = 0;

__u32 daemon_gone; /* of this load; not pinned, so the next daemon begins anew */

/*
 * Runs in each task that exits, before it lets go of its files (do_exit() in
 * kernel/exit.c). So when the daemon is killed, its lease has ended before the
 * last reference to its sockets is dropped: a peer whose datagram is refused
 * may take over at once.
 *
 * The main thread of a Go program ends with the process only; after it every
 * other thread clears the lease again on its way out, since it may have been
 * renewing it. An unlimited lease stays: nobody would serve in our place.
 */
SEC("raw_tracepoint/sched_process_exit")
int systole_exit(void *ctx __attribute__((unused)))
{
	struct bpf_pidns_info task = {};
	struct state *s;

	if (bpf_get_ns_current_pid_tgid(daemon_pidns_dev, daemon_pidns_ino, &task, sizeof(task)))
		return 0;
	if (task.tgid != daemon_pid)
		return 0;
	if (task.pid == task.tgid)
		WRITE_ONCE(daemon_gone, 1);
	if (!READ_ONCE(daemon_gone))
		return 0;
	s = get_state();
	if (READ_ONCE(s->lease_until) != LEASE_UNLIMITED)
		WRITE_ONCE(s->lease_until, 0);
	return 0;
}

/*
 * A daemon that was alone has died, and its unlimited lease with nobody to end
 * it: when another director announces an address of ours as its own, it serves
 * in our place. Who can announce in its name could take the address anyway.
 */
static __always_inline void another_owner(struct state *s)
{
	if (READ_ONCE(daemon_gone) && READ_ONCE(s->lease_until) == LEASE_UNLIMITED)
		WRITE_ONCE(s->lease_until, 0);
}

#endif

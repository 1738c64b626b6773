/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How many new flows a CPU stores: a token bucket of its own, filled by
 * jiffies. A flood above the rate costs no stores and pushes nobody out of the
 * flow table.
 *
 * Above it a packet that opens a flow is still forwarded, to the slot that a
 * hash of the client points to, and not remembered. The client's next packet
 * finds no flow; as long as a SYN may take to be answered it goes to the same
 * slot, and is stored if there is a token again. Until then the connection is
 * without the promise that no flow moves: a change of servers moves it.
 */
#ifndef SYSTOLE_LIMIT_H
#define SYSTOLE_LIMIT_H

#include "maps.h"

struct budget {
	__u64 at;     /* jiffies of the last refill */
	__u64 tokens; /* in 65536ths */
	__u64 until;  /* jiffies; before it segments may have been hashed */
	__u64 unit;   /* the unit of age of the last error */
	__u64 errors; /* of tunnel.h, made in it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

const volatile __u64 limit_rate = 0;  /* tokens per jiffy, in 65536ths; 0: unlimited */
const volatile __u64 limit_depth = 0; /* the most there can be, in 65536ths */
const volatile __u64 limit_memory = 0; /* jiffies that a SYN may take to be answered */

#define TOKEN 65536
#define LIMIT_IDLE (1 << 20) /* jiffies in which any bucket is full again */

/* Whether this CPU may store one more flow. */
static __always_inline int may_store(void)
{
	__u32 zero = 0;
	struct budget *b;
	__u64 now, idle;

	if (!limit_rate)
		return 1;
	b = bpf_map_lookup_elem(&budgets, &zero);
	if (!b)
		return 1;
	now = bpf_jiffies64();
	idle = now - b->at;
	if (idle) {
		if (idle > LIMIT_IDLE)
			idle = LIMIT_IDLE;
		b->at = now;
		b->tokens += idle * limit_rate;
		if (b->tokens > limit_depth)
			b->tokens = limit_depth;
	}
	if (b->tokens < TOKEN) {
		b->until = now + limit_memory;
		return 0;
	}
	b->tokens -= TOKEN;
	return 1;
}

/* Whether a segment without a flow may be one of a SYN that was not stored. */
static __always_inline int lately_limited(void)
{
	__u32 zero = 0;
	struct budget *b;

	if (!limit_rate)
		return 0;
	b = bpf_map_lookup_elem(&budgets, &zero);
	return b && bpf_jiffies64() < b->until;
}

#endif

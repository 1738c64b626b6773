/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Least connections (lc, wlc): a new flow goes to the server with the least
 * load, for its weight. The rule is IPVS's (ip_vs_lc.c, ip_vs_wlc.c): the load
 * is 256 for an active connection and 1 for an inactive one, the loads are
 * compared by cross multiplication, and of equal ones the first wins.
 *
 * One word for each server has its load. Whoever stores a flow, or changes a
 * state, adds what that makes; no packet that changes nothing is asked. What
 * makes no packet, the end of a flow by its time, user space finds in the table
 * every second: it adds to each word by what it is off (dataplane/xdp/least.go).
 * So a load is never off for longer than that, whatever else was missed: a flow
 * that was evicted, or came from another director, or whose entry another CPU
 * changed at the same time.
 *
 * A CPU adds right after it chose. Two that choose at the same moment may choose
 * the same server: of n CPUs each, so a server gets at most n connections in the
 * place of one.
 *
 * A service's slots are its servers in their order, and behind them as many
 * weights.
 */
#ifndef SYSTOLE_LEAST_H
#define SYSTOLE_LEAST_H

#include "flow.h"
#include "maps.h"

#define LEAST_SERVERS 1024 /* of one service, at most */
#define LEAST_PART 64      /* that one call looks at: the verifier sees it once */

#define LOAD_ACTIVE 256
#define LOAD_INACTIVE 1

/*
 * By server id. Not in lines of their own: who chooses reads all of a service's,
 * and their ids are mostly neighbours.
 */
struct loads {
	__s64 of[SERVER_IDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct loads);
	__uint(map_flags, BPF_F_MMAPABLE);
} loads SEC(".maps");

/* Of slots from at on the one with the least load, or best if none has less. */
GLOBAL __u32 least_part(struct generation *g, __u32 first, __u32 slots, __u32 at, __u32 best)
{
	__u32 zero = 0, weights = first + slots;
	__s64 load, weight;
	struct loads *l;

	l = bpf_map_lookup_elem(&loads, &zero);
	if (!g || !l)
		return best;
	load = READ_ONCE(l->of[g->slots[(first + best) & (SLOTS - 1)] & (SERVER_IDS - 1)]);
	weight = g->slots[(weights + best) & (SLOTS - 1)];
	for (__u32 i = 0; i < LEAST_PART && at < slots; i++, at++) {
		__s64 b = READ_ONCE(l->of[g->slots[(first + at) & (SLOTS - 1)] & (SERVER_IDS - 1)]);
		__s64 w = g->slots[(weights + at) & (SLOTS - 1)];
		__s64 less = b * weight - load * w;

		/* No branch: the verifier would follow both ways each time. */
		OPAQUE(less);
		less >>= 63; /* all bits or none */
		best ^= (best ^ at) & less;
		load ^= (load ^ b) & less;
		weight ^= (weight ^ w) & less;
	}
	return best;
}

/* The slot, from first on, of the server for a new flow of a service with slots. */
GLOBAL __u32 least_slot(struct generation *g, __u32 first, __u32 slots)
{
	__u32 best = 0;

	if (!g)
		return 0;
	for (__u32 at = 0; at < LEAST_SERVERS && at < slots; at += LEAST_PART)
		best = least_part(g, first, slots, at, best);
	return best;
}

/*
 * What a flow is to its server's load: half open connections are active, but of
 * SCTP (ip_vs_proto_tcp.c, ip_vs_proto_sctp.c); datagrams never are.
 */
static __always_inline __s64 flow_load(__u32 state, __u32 protocol)
{
	return state == FLOW_ESTABLISHED || (state == FLOW_SYN && protocol == IPPROTO_TCP) ?
		LOAD_ACTIVE : LOAD_INACTIVE;
}

static __always_inline void add_load(struct loads *l, __u64 val, __s64 load)
{
	__sync_fetch_and_add(&l->of[FLOW_SERVER(val)], load);
}

/*
 * A flow became what val says. It was what past says; 0: it was none. One that
 * is past its time has been taken off its server by user space.
 */
GLOBAL int least_count(struct generation *g, __u64 past, __u64 val, __u32 protocol)
{
	__s64 load = flow_load(FLOW_STATE(val), protocol);
	__u32 zero = 0;
	struct loads *l = bpf_map_lookup_elem(&loads, &zero);

	if (!g || !l)
		return 0;
	if (FLOW_SERVER(past) && !flow_expired(g, past, FLOW_SEEN(val))) {
		__s64 had = flow_load(FLOW_STATE(past), protocol);

		if (FLOW_SERVER(past) == FLOW_SERVER(val))
			load -= had;
		else
			add_load(l, past, -had);
	}
	if (load)
		add_load(l, val, load);
	return 0;
}

#endif

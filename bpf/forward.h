/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Gate forwarding (LVS "DR"): only the MAC addresses change. */
#ifndef SYSTOLE_FORWARD_H
#define SYSTOLE_FORWARD_H

#include "fragment.h"
#include "maps.h"
#include "observe.h"
#include "parse.h"

static __always_inline int mac_known(const struct server *s)
{
	const __u16 *m = (const __u16 *)s->mac;

	return (m[0] | m[1] | m[2]) != 0;
}

/* MACs stand at even offsets; three halfwords each. */
static __always_inline int send_to(struct generation *g, struct ethhdr *eth, const void *mac)
{
	__u16 *frame = (__u16 *)eth;
	const __u16 *dst = mac;
	const __u16 *src = (const __u16 *)g->own.addr;

	frame[0] = dst[0];
	frame[1] = dst[1];
	frame[2] = dst[2];
	frame[3] = src[0];
	frame[4] = src[1];
	frame[5] = src[2];
	return XDP_TX;
}

static __always_inline int forward(struct generation *g, const struct packet *p,
				   const struct server *s, __u32 id, __u32 connections)
{
	struct counters *c;

	observe_forward(id, connections);
	if (!mac_known(s)) {
		/* The flow stays where it is; TCP will try again. */
		count(REASON_NO_MAC);
		return XDP_DROP;
	}
	c = bpf_map_lookup_elem(&server_stats, &id);
	if (c) {
		c->packets++;
		c->bytes += p->bytes;
		c->connections += connections;
	}
	if (p->first)
		fragment_store4(p->ctx, p->l3, id);
	return send_to(g, p->eth, s->mac);
}

/* Where a packet goes that is not forwarded: up, if we may answer at all. */
static __always_inline int leave(int ended, enum reason why)
{
	if (ended) {
		count(REASON_LEASE_ENDED);
		return XDP_DROP;
	}
	count(why);
	return XDP_PASS;
}

/*
 * Without branches: with them the verifier follows each way out of the loop
 * through all that comes after.
 */
static __always_inline int from_peer(struct generation *g, const struct ethhdr *eth)
{
	__u64 found = 0;

#pragma unroll
	for (__u32 i = 0; i < MAX_PEERS; i++) {
		found |= (mac_difference(eth->h_source, g->peers[i].addr) - 1) >> 63 << i;
		/* One after the other: all at once they would be on the stack. */
		asm volatile("" : "+r"(found) : : "memory");
	}
	return (found & ((1ULL << (g->npeers & 63)) - 1)) != 0;
}

#endif

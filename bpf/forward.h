/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Gate forwarding (LVS "DR"): only the MAC addresses change. A server behind a
 * tunnel, or of several interfaces, has no MAC here; elsewhere() of tunnel.h
 * sends what is for it.
 */
#ifndef SYSTOLE_FORWARD_H
#define SYSTOLE_FORWARD_H

#include "egress.h"
#include "fragment.h"
#include "maps.h"
#include "observe.h"
#include "parse.h"

/* The first eight bytes of a server, a peer or our own address: MAC, and what follows it. */
static __always_inline __u64 mac_word(const void *mac)
{
	return READ_ONCE(*(const __u64 *)mac);
}

/* In words of four bytes: a frame's head is not aligned to more. */
static __always_inline int send_to(struct generation *g, struct ethhdr *eth, __u64 mac)
{
	__u32 *frame = (__u32 *)eth;
	__u64 own = mac_word(&g->own);

	frame[0] = mac;
	frame[1] = (mac >> 32 & 0xffff) | own << 16;
	frame[2] = own >> 16;
	return XDP_TX;
}

GLOBAL int elsewhere(struct xdp_md *ctx, struct generation *g, __u32 l3);

/* No verdict of XDP: the caller's caller, which is outermost, calls elsewhere(). */
#define NO_MAC 16
#define HOW_CONNECTION (1 << 16)

/* In the functions that the outermost one calls the stack is too deep for it. */
static __always_inline int no_mac(struct generation *g, const struct packet *p, __u32 id,
				  __u32 connections)
{
	struct scratch *x = get_scratch();

	if (!x)
		return XDP_DROP;
	WRITE_ONCE(x->way, id);
	WRITE_ONCE(x->how, (connections ? HOW_CONNECTION : 0) | p->sport);
	WRITE_ONCE(x->bytes, p->bytes);
	return p->outermost ? elsewhere(p->ctx, g, p->l3) : NO_MAC;
}

static __always_inline int forward(struct generation *g, const struct packet *p,
				   const struct server *s, __u32 id, __u32 connections)
{
	__u64 mac = mac_word(s);
	struct counters *c;

	observe_forward(id, connections);
	if (UNLIKELY(!(mac & MAC_BITS)))
		return no_mac(g, p, id, connections);
	if (UNLIKELY(p->first))
		fragment_store4(p->ctx, p->l3, id);
	c = bpf_map_lookup_elem(&server_stats, &id);
	if (c) {
		c->packets++;
		c->bytes += p->bytes;
		c->connections += connections;
	}
	return send_to(g, p->eth, mac);
}

/* A second chance: another director may have the flow. */
static __always_inline int send_to_peer(struct generation *g, const struct packet *p)
{
	__u64 mac = mac_word(&g->peers[0]);

	count(REASON_SECOND_CHANCE);
	if (UNLIKELY(mac >> 48))
		return egress(p->ctx, g, EGRESS_WHAT(0, 0, p->bytes));
	return send_to(g, p->eth, mac);
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

/*
 * A connection that ended here before the address went to a peer and came back
 * says nothing about a segment that arrives now: the client may have used the
 * port again there. The peer knows.
 */
static __always_inline int superseded(struct generation *g, const struct packet *p,
				      __u32 since, __u64 val, __u32 now)
{
	return g->second_chance && (__u32)flow_age(val, now) > now + 1 - since &&
	       !from_peer(g, p->eth);
}

#endif

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which virtual address, which service, and whose turn it is. */
#ifndef SYSTOLE_SCHEDULE_H
#define SYSTOLE_SCHEDULE_H

#include "maps.h"

/*
 * The two tables are perfect hashes ("hash, displace"): user space searched a
 * seed and, per bucket, a displacement so that every key has a place of its
 * own. One probe answers, hit or miss. Keys come from the operator, not from
 * the network, so the multiplication need not withstand an attacker.
 */
static __always_inline __u32 table_hash(__u64 key, __u64 seed)
{
	return (key * seed) >> 32;
}

/* The only place where addr can be: to be compared by is_vip(). */
static __always_inline struct vip *vip_place(struct generation *g, __be32 addr)
{
	__u32 h = table_hash(addr, g->vip_seed);
	__u32 at = h ^ g->vip_shift[(h >> 16) & (VIP_BUCKETS - 1)];

	return &g->vips[at & (VIP_TABLE - 1)];
}

static __always_inline int is_vip(const struct vip *v, __be32 addr)
{
	return v->addr == addr && v->role != ROLE_NONE;
}

/*
 * The address itself and not an index of it: so the search for the service
 * need not wait for the one for the address, the processor does both at once.
 */
static __always_inline __u64 service_key(__be32 vip, __be16 port, __u8 protocol)
{
	return (__u64)vip << 24 | (__u64)port << 8 | protocol;
}

/* The only place where key can be: the caller compares it. No key is 0. */
static __always_inline struct service *service_place(struct generation *g, __u64 key)
{
	__u32 h = table_hash(key, g->service_seed);
	__u32 at = h ^ g->service_shift[(h >> 16) & (SERVICE_BUCKETS - 1)];

	return &g->services[at & (SERVICE_TABLE - 1)];
}

static __always_inline struct server *get_server(struct generation *g, __u64 id)
{
	return &g->servers[id & (SERVER_IDS - 1)];
}

/*
 * Strict round robin on any number of CPUs: one counter per service, taken and
 * advanced in one atomic step. The remainder is taken of all 64 bits: a 32-bit
 * counter would make one uneven step at each wrap. The counter belongs to the
 * service, not to the generation, so a change of servers does not begin anew.
 * Returns a server id, 0 if the service has no eligible server.
 */
static __always_inline __u32 schedule(struct generation *g, const struct service *s)
{
	__u32 id = s->id, slots = s->slots;
	struct turn *t;
	__u64 n;

	if (!slots)
		return 0;
	t = bpf_map_lookup_elem(&turns, &id);
	if (!t)
		return 0;
	n = __sync_fetch_and_add(&t->next, 1);
	return g->slots[(s->first_slot + (__u32)(n % slots)) & (SLOTS - 1)];
}

#endif

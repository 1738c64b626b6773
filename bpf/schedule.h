/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which virtual address, which service, and whose turn it is. */
#ifndef SYSTOLE_SCHEDULE_H
#define SYSTOLE_SCHEDULE_H

#include "least.h"
#include "maps.h"
#include "parse.h"

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

/* Whether a flow of svc may go on to server s. */
static __always_inline int stays(const struct service *svc, const struct server *s)
{
	return s->service == svc->id ||
	       (svc->flags & SERVICE_KEEP && s->service == (svc->id | SERVER_LEFT));
}

/*
 * The place of the service with the narrowest range around a port, of the n
 * ranges of an address; below 0: there is none.
 */
GLOBAL int range_place(struct generation *g, __u32 at, __u32 n, __u32 port, __u32 protocol)
{
	if (!g)
		return -1;
	for (__u32 i = 0; i < RANGES_PER_VIP && i < n; i++, at++) {
		const struct port_range *r = &g->ranges[at & (RANGES - 1)];

		if (r->protocol == protocol && r->first <= port && port <= r->last)
			return r->place;
	}
	return -1;
}

/*
 * The service of a packet, or NULL: the one of just its port, else the one with
 * the narrowest range of ports around it. key is service_key() of the packet.
 */
static __always_inline struct service *find_service(struct generation *g, const struct vip *v,
						    __u64 key, __be16 port, __u8 protocol)
{
	struct service *s = service_place(g, key);
	int place;

	if (s->key == key)
		return s;
	if (!v->ranges)
		return NULL;
	place = range_place(g, v->first_range, v->ranges, bpf_ntohs(port), protocol);
	return place < 0 ? NULL : &g->services[place & (SERVICE_TABLE - 1)];
}

/*
 * The slot of a client, for schedulers that go by its address. Every director
 * must choose the same, so nothing of it is secret; what must be is where a
 * flow stands in the table, and that is flow_hash().
 */
static __always_inline __u32 client_hash(__be32 addr, __be16 port)
{
	__u64 h = (__u64)addr << 16 | port;

	h *= 0x9e3779b97f4a7c15ULL;
	h ^= h >> 32;
	h *= 0xbf58476d1ce4e5b9ULL;
	return h >> 32;
}

/* The server in the slot to which a hash of 32 bits points; 0: none. */
static __always_inline __u32 hash_server(struct generation *g, const struct service *s, __u32 hash)
{
	__u32 n = (__u64)hash * s->slots >> 32;

	return s->slots ? g->slots[(s->first_slot + n) & (SLOTS - 1)] : 0;
}

/*
 * Strict round robin on any number of CPUs: one counter per service, taken and
 * advanced in one atomic step. The remainder is taken of all 64 bits: a 32-bit
 * counter would make one uneven step at each wrap. The counter belongs to the
 * service, not to the generation, so a change of servers does not begin anew.
 * Services by the fewest connections have no turns (least.h).
 */
static __always_inline __u32 next_server(struct generation *g, const struct service *s)
{
	__u32 id = s->id, slots = s->slots, turn;
	struct turn *t;
	__u64 n;

	if (!slots)
		return 0;
	if (s->flags & SERVICE_LEAST) {
		n = least_slot(g, s->first_slot, slots);
	} else {
		t = bpf_map_lookup_elem(&turns, &id);
		if (!t)
			return 0;
		n = __sync_fetch_and_add(&t->next, 1);
	}
	/* Processors divide 32 bits in a third of the time that 64 take. */
	turn = n >> 32 ? n % slots : (__u32)n % slots;
	return g->slots[(s->first_slot + turn) & (SLOTS - 1)];
}

/* The server for a new flow, by its id; 0 if the service has no eligible one. */
static __always_inline __u32 schedule(struct generation *g, const struct service *s,
				      const struct packet *p)
{
	if (s->flags & SERVICE_HASH)
		return hash_server(g, s, client_hash(p->saddr, s->flags & SERVICE_HASH_PORT ? p->sport : 0));
	return next_server(g, s);
}

/* The server that a QUIC connection without a flow is on already; quic.h. */
GLOBAL int quic_server(struct xdp_md *ctx, struct generation *g, __u32 l3, __u32 what);

/* Of the service: its id, and above 16 bits the length of its servers' IDs, 0: it has none. */
#define QUIC_WHAT(s) ((s)->id | (__u32)(s)->flags / SERVICE_QUIC << 16)
#define QUIC_LENGTH(what) ((what) >> 16)

#endif

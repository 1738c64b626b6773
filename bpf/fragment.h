/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fragments go to the server of their first.
 *
 * Only the first fragment of a datagram has ports. It is served like any other
 * packet, and remembered by what all of them have: addresses, protocol and
 * identification (RFC 791 section 3.2, RFC 8200 section 4.5). The others are
 * sent where it went. They come within milliseconds, so an entry counts for
 * two seconds or so: the identification of IPv4 has 16 bits only and is soon
 * used again.
 *
 * A later fragment may overtake its first one: early.h.
 */
#ifndef SYSTOLE_FRAGMENT_H
#define SYSTOLE_FRAGMENT_H

#include "flow6.h"
#include "maps.h"
#include "parse.h"

/*
 * A datagram's key. The client's address is exact. The virtual address and the
 * protocol, which are no choice of a client, share 32 bits.
 */
static __always_inline void fragment_key(struct key6 *k, const struct key6 *vip, __u8 protocol,
					 __u32 id)
{
	k->port = (__u64)id << 32 | hash6(vip, protocol) >> 32;
}

/* IPv4 addresses are mapped, as RFC 4291 section 2.5.5.2 has it: not on a wire. */
static __always_inline void fragment_key4(struct key6 *k, const struct iphdr *ip)
{
	struct key6 vip = { .client = { 0, (__u64)ip->daddr << 32 | 0xffff0000 } };

	k->client[0] = 0;
	k->client[1] = (__u64)ip->saddr << 32 | 0xffff0000;
	fragment_key(k, &vip, ip->protocol, ip->id);
}

static __always_inline struct flow6 *fragment_find(const struct key6 *k, __u64 hash, __u64 *val)
{
	__u32 at1 = first_choice6(hash, FRAGMENT_BUCKETS - 1);
	__u32 at2 = second_choice6(hash, FRAGMENT_BUCKETS - 1);
	struct bucket6 *b = bpf_map_lookup_elem(&fragments, &at1);
	struct flow6 *f;

	if (!b)
		return NULL;
	f = bucket6_find(b, k, val);
	if (f)
		return f;
	b = bpf_map_lookup_elem(&fragments, &at2);
	return b ? bucket6_find(b, k, val) : NULL;
}

static __always_inline __u64 fragment_hash(const struct key6 *k)
{
	return hash6(k, k->port >> 32);
}

/* The server id of a datagram whose first fragment was here; 0: it was not. */
GLOBAL int fragment_server(struct key6 *k)
{
	__u32 now = bpf_jiffies64() >> age_shift;
	struct state *s = get_state();
	__u64 val = 0;

	if (!k || !fragment_find(k, fragment_hash(k), &val) ||
	    flow_expired(active_generation(s), val, now))
		return 0;
	return FLOW_SERVER(val);
}

/* Remembers where the datagram of a first fragment goes. */
static __always_inline int fragment_store(struct key6 *k, __u32 server)
{
	__u32 now = bpf_jiffies64() >> age_shift;
	__u64 hash = fragment_hash(k), val = 0;
	__u64 next = FLOW_VAL(0, server, FLOW_UDP, 0, now);
	struct flow6 *f = fragment_find(k, hash, &val);

	if (f)
		return val6_swap(f, val, next | FLOW_VERSION(val));
	return store6(1, hash, k, next);
}

GLOBAL int fragment_store4(struct xdp_md *ctx, __u32 l3, __u32 server)
{
	void *end = (void *)(long)ctx->data_end;
	struct scratch *x = get_scratch();
	struct iphdr *ip;

	if (!x || l3 > L3_MAX)
		return 0;
	ip = ip_at((void *)(long)ctx->data, l3);
	if ((void *)(ip + 1) > end)
		return 0;
	fragment_key4(&x->datagram, ip);
	return fragment_store(&x->datagram, server);
}

#endif

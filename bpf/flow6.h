/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The tables whose keys are too long for one word: the flows of IPv6, and the
 * datagrams of both families that come in fragments (fragment.h). As in flow.h
 * a key may stand in one of the four ways of two buckets, and an entry's value
 * is the same; so is what two CPUs may do to it at the same time, but that the
 * key has three words. They are written while the value says BUSY, and read
 * between two reads of one version.
 *
 *	client   the client's address, as it stands in the packet
 *	port     63         32 31      16 15        0
 *	         service id    client port dest. port        (flows)
 *	         datagram id   hash of VIP and protocol      (fragments)
 *
 * The datagrams' entries are UDP flows of service 0, which has its own timeouts.
 *
 * An entry has 32 bytes, so the four ways are two cache lines. Free entries of
 * the first are preferred, so that mostly one line is looked at.
 */
#ifndef SYSTOLE_FLOW6_H
#define SYSTOLE_FLOW6_H

#include "flow.h"
#include "maps.h"
#include "parse.h"

/*
 * Multilinear hashing: one secret odd multiplier for each 32-bit word of the
 * key, so the multiplications do not wait for each other. What is below the
 * upper half is good only for words that differ there; so the halves are mixed
 * as in flow_hash().
 */
static __always_inline __u64 hash6(const struct key6 *k, __u32 last)
{
	__u64 h = (__u32)k->client[0] * flow6_seed[0] + (k->client[0] >> 32) * flow6_seed[1] +
		  (__u32)k->client[1] * flow6_seed[2] + (k->client[1] >> 32) * flow6_seed[3] +
		  last * flow6_seed[4];

	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 32;
}

static __always_inline __u32 first_choice6(__u64 h, __u32 mask)
{
	return (h >> 40) & mask;
}

static __always_inline __u32 second_choice6(__u64 h, __u32 mask)
{
	__u32 at = h & mask;

	return at == first_choice6(h, mask) ? at ^ (1 & mask) : at;
}

/* The third word of a flow's key. Both ports 0 is a template (persist6.h). */
static __always_inline __u64 flow6_port(__u16 service, __be16 sport, __be16 dport)
{
	return (__u64)service << 32 | (__u32)sport << 16 | dport;
}

static __always_inline __u64 flow6_hash(const struct key6 *k)
{
	return hash6(k, k->port);
}

static __always_inline __u64 flow6_difference(const struct flow6 *f, const struct key6 *k)
{
	return (READ_ONCE(f->port) ^ k->port) | (READ_ONCE(f->client[0]) ^ k->client[0]) |
	       (READ_ONCE(f->client[1]) ^ k->client[1]);
}

/* The entry of k in b with its value, or NULL: bucket_find() for long keys. */
static __always_inline struct flow6 *bucket6_find(struct bucket6 *b, const struct key6 *k,
						  __u64 *val)
{
	__u64 zero = unknown_zero(k->port);
	struct flow6 *f;
	__u64 way, v;

	if (!flow6_difference(&b->way[0], k))
		way = zero;
	else if (!flow6_difference(&b->way[1], k))
		way = zero + 1;
	else if (!flow6_difference(&b->way[2], k))
		way = zero + 2;
	else if (!flow6_difference(&b->way[3], k))
		way = zero + 3;
	else
		return NULL;
	f = &b->way[way & (WAYS - 1)];
	v = READ_ONCE(f->val);
	if (!FLOW_SERVER(v) || flow6_difference(f, k) ||
	    FLOW_VERSION(READ_ONCE(f->val)) != FLOW_VERSION(v))
		return NULL;
	*val = v;
	return f;
}

static __always_inline struct flow6 *flow6_find(const struct key6 *k, __u64 hash, __u64 *val)
{
	__u32 at1 = first_choice6(hash, bucket6_mask), at2 = second_choice6(hash, bucket6_mask);
	struct bucket6 *b = bpf_map_lookup_elem(&flows6, &at1);
	struct flow6 *f;

	if (!b)
		return NULL;
	f = bucket6_find(b, k, val);
	if (f)
		return f;
	b = bpf_map_lookup_elem(&flows6, &at2);
	return b ? bucket6_find(b, k, val) : NULL;
}

static __always_inline int val6_swap(struct flow6 *f, __u64 val, __u64 next)
{
	return __sync_val_compare_and_swap(&f->val, val, next) == val;
}

/* bucket_judge() for long keys. */
GLOBAL int judge6(struct generation *g, struct bucket6 *b, __u32 now, struct place6 *best)
{
	__u64 top = 0, val = 0;

	if (!g || !b || !best)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < WAYS; i++) {
		__u64 v = READ_ONCE(b->way[i].val);
		__u64 score = victim(g, v, i, now) + unknown_zero(v);

		if (score > top) {
			top = score;
			val = v;
		}
		top += unknown_zero(v);
	}
	best->score = top;
	best->val = val;
	return 0;
}

/* Writes an entry in the place of old, unless somebody changed that since. */
static __always_inline int flow6_take(struct flow6 *f, __u64 old, const struct key6 *k, __u64 val)
{
	__u64 version = FLOW_VERSION(old + FLOW_VERSION_ONE);

	if (!val6_swap(f, old, FLOW_VAL(0, 0, FLOW_BUSY, version, FLOW_SEEN(val))))
		return 0;
	WRITE_ONCE(f->client[0], k->client[0]);
	WRITE_ONCE(f->client[1], k->client[1]);
	WRITE_ONCE(f->port, k->port);
	WRITE_ONCE(f->val, val | version);
	return 1;
}

/*
 * Stores an entry that is in neither bucket, in the emptier of the two; the
 * first unless it is full. table is 0 for flows, 1 for fragments.
 */
GLOBAL int store6(__u32 table, __u64 hash, struct key6 *k, __u64 val)
{
	__u32 at1, at2, now = FLOW_SEEN(val);
	struct bucket6 *b1, *b2;
	struct scratch *x = get_scratch();
	struct state *s = get_state();
	struct generation *g;
	struct place6 *best;

	if (!k || !x)
		return 0;
	g = active_generation(s);
	best = &x->best;
	if (table) {
		at1 = first_choice6(hash, FRAGMENT_BUCKETS - 1);
		at2 = second_choice6(hash, FRAGMENT_BUCKETS - 1);
		b1 = bpf_map_lookup_elem(&fragments, &at1);
		b2 = bpf_map_lookup_elem(&fragments, &at2);
	} else {
		at1 = first_choice6(hash, bucket6_mask);
		at2 = second_choice6(hash, bucket6_mask);
		b1 = bpf_map_lookup_elem(&flows6, &at1);
		b2 = bpf_map_lookup_elem(&flows6, &at2);
	}
	if (!b1 || !b2)
		return 0;
	judge6(g, b1, now, best);
	if (best->score < SCORE_FREE) {
		judge6(g, b2, now, &x->second);
		if (x->second.score > best->score) {
			best = &x->second;
			b1 = b2;
		}
	}
	if (!best->score || !flow6_take(&b1->way[best->score & (WAYS - 1)], best->val, k, val)) {
		count(REASON_FLOW_NOT_STORED);
		return 0;
	}
	if (best->score < SCORE_FREE && !table)
		count(best->score >> RANK_SHIFT ? REASON_SYN_EVICTED : REASON_FLOW_EVICTED);
	return 0;
}

#endif

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The flow table: which real server has which client connection.
 *
 * A 4-way set-associative table with two choices. A key may stand in one of
 * the four ways of two buckets; a bucket is one cache line. The second is
 * probed only when the first has no match, so an established flow mostly costs
 * one line, and a new one is stored into a line that is already in the cache.
 *
 * The key is exact, there are no fingerprints to collide:
 *
 *	63        32 31        16 15         0
 *	client addr  client port  dest. port   (wire byte order)
 *
 * It lacks the virtual address: the owner in the value has it. The value:
 *
 *	63      38 37     31 30   28 27      14 13      0
 *	last seen  version   state   service    server    (age units; ids 1..)
 *
 * An entry without a server is free, or BUSY.
 *
 * What two CPUs may do to one entry at the same time
 * --------------------------------------------------
 * An entry changes owner in three steps: (1) compare-and-swap of the value to
 * {version+1, BUSY, no service, no server}; (2) store of the new key; (3) store
 * of the new value, with the same version+1. Everything that may be wrong
 * begins with acting on a value one has read; every such action is a
 * compare-and-swap of that value, and a version makes it unique:
 *
 * - Two writers want the same entry: both swap from the value they read, one
 *   loses and looks for another entry. A flow that was promoted or refreshed
 *   since it was judged the victim has another value: it is not evicted.
 * - A writer refreshes (state, last seen) an entry that meanwhile changed
 *   owner: the swap fails, the new owner's server is not overwritten.
 * - A reader forwards by another flow's server: it reads value, key, value. If
 *   the first value is not BUSY and the second has the same version, the entry
 *   had one owner from the one read to the other, (3) of it had happened and
 *   (1) of the next had not; so the key read between is that owner's key, and
 *   if it is ours the value is ours. A wrap of the 7-bit version within those
 *   few nanoseconds takes 128 evictions of one entry.
 * - Two CPUs miss the same key at the same time (one flow on two queues: not
 *   with RSS) and both store it. Look-up always finds the same copy, the first
 *   in probe order; the other is never refreshed, so it is the older of the
 *   two and stays on probation: it goes first.
 *
 * This counts on loads and stores staying in order, which holds on x86 (TSO);
 * the swaps are full barriers everywhere. On a weaker machine a reader could
 * take the value of an entry's former owner for one packet.
 *
 * A BUSY entry is never chosen as victim. No program stops between (1) and
 * (3): they run to completion.
 */
#ifndef SYSTOLE_FLOW_H
#define SYSTOLE_FLOW_H

#include "maps.h"
#include "parse.h"

#define FLOW_SERVICE_SHIFT 14
#define FLOW_STATE_SHIFT 28
#define FLOW_SEEN_SHIFT 38
#define FLOW_SERVER_MASK 0x3fffULL
#define FLOW_SERVICE_MASK (0x3fffULL << FLOW_SERVICE_SHIFT)
#define FLOW_STATE_BITS(state) ((__u64)(state) << FLOW_STATE_SHIFT)
#define FLOW_STATE_MASK FLOW_STATE_BITS(FLOW_STATES - 1)
#define FLOW_VERSION_MASK 0x3f80000000ULL
#define FLOW_VERSION_ONE 0x80000000ULL
#define FLOW_SEEN_MAX 0x3ffffffU

/* Not 0 in the value of an entry that is not free: it has a server, or is BUSY. */
#define FLOW_USED (FLOW_STATE_MASK | FLOW_SERVER_MASK)

#define FLOW_SERVER(v) ((v) & FLOW_SERVER_MASK)
#define FLOW_SERVICE(v) ((__u32)((v) >> FLOW_SERVICE_SHIFT) & 0x3fff)
#define FLOW_STATE(v) (((v) >> FLOW_STATE_SHIFT) & (FLOW_STATES - 1))
#define FLOW_SEEN(v) ((__u32)((v) >> FLOW_SEEN_SHIFT))
#define FLOW_VERSION(v) ((v) & FLOW_VERSION_MASK)
#define FLOW_VAL(service, server, state, version, seen) \
	((__u64)(seen) << FLOW_SEEN_SHIFT | (version) | FLOW_STATE_BITS(state) | \
	 (__u64)(service) << FLOW_SERVICE_SHIFT | (server))

/* val with another state and time. */
#define FLOW_NEXT(val, state, seen) \
	(((val) & ~(FLOW_STATE_MASK | ~0ULL << FLOW_SEEN_SHIFT)) | FLOW_STATE_BITS(state) | \
	 (__u64)(seen) << FLOW_SEEN_SHIFT)

/* Keeps the compiler from turning arithmetic back into branches. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

static __always_inline __u64 flow_key(const struct packet *p)
{
	return (__u64)p->saddr << 32 | (__u64)p->sport << 16 | p->dport;
}

/*
 * Where a flow may stand follows from the packet alone, so that the bucket is
 * on its way from memory while the service is still being looked up. The
 * virtual address is left out: the flows of one client port to one port of
 * several addresses share their buckets.
 *
 * Clients choose their addresses and ports, so the hash is keyed with two
 * secret words: who cannot see which flows share a bucket cannot aim at one.
 * A product's high bits depend on all of its factor, its low bits only on the
 * low ones; so the high half is folded into the low one before and after each
 * of the two multiplications. Less leaves runs of client addresses visible:
 * with some seeds a table half full then evicts a hundred times as often.
 */
static __always_inline __u64 flow_hash_high(__u64 key)
{
	__u64 h = key ^ flow_seed0;

	h ^= h >> 32;
	h *= flow_seed1;
	h ^= h >> 32;
	return h * 0x9e3779b97f4a7c15ULL; /* 2^64 / golden ratio */
}

/* From the hash of which only the first choice is good. */
static __always_inline __u64 flow_hash_fold(__u64 h)
{
	return h ^ h >> 32;
}

static __always_inline __u64 flow_hash(__u64 key)
{
	return flow_hash_fold(flow_hash_high(key));
}

/* The two choices: bits 40..63 and bits 0..23. They always differ. */
static __always_inline __u32 first_choice(__u64 h)
{
	return (h >> 40) & bucket_mask;
}

static __always_inline __u32 second_choice(__u64 h)
{
	__u32 at = h & bucket_mask;

	return at == first_choice(h) ? at ^ (1 & bucket_mask) : at;
}

/*
 * Units since a flow's last packet, plus one: another CPU's clock reading may
 * be newer than ours by one. It begins anew at 2^26 units, about a year.
 */
static __always_inline __s32 flow_age(__u64 val, __u32 now)
{
	return (now + 1 - FLOW_SEEN(val)) & FLOW_SEEN_MAX;
}

static __always_inline __s32 timeout(const struct generation *g, __u32 service, __u32 state)
{
	return g->timeouts[service & (SERVICE_IDS - 1)].by_state[state & (FLOW_STATES - 1)];
}

static __always_inline int flow_expired(const struct generation *g, __u64 val, __u32 now)
{
	return flow_age(val, now) > timeout(g, FLOW_SERVICE(val), FLOW_STATE(val));
}

/* The value of f if it is that of key and service, else 0. */
static __always_inline __u64 flow_read(struct flow *f, __u64 key, __u32 service)
{
	__u64 v = READ_ONCE(f->val);

	if (READ_ONCE(f->key) != key || FLOW_SERVICE(v) != service ||
	    FLOW_VERSION(READ_ONCE(f->val)) != FLOW_VERSION(v))
		return 0;
	return v;
}

/*
 * The entry of key and service in b with its value, or NULL. From the last way
 * to the first: an empty bucket is filled so (victim()).
 */
static __always_inline struct flow *bucket_find(struct bucket *b, __u64 key, __u32 service,
						__u64 *val)
{
	__u64 zero = unknown_zero(key);

#pragma unroll
	for (int i = WAYS - 1; i >= 0; i--) {
		__u64 v;

		if (READ_ONCE(b->way[i].key) != key)
			continue;
		v = flow_read(&b->way[i], key, service);
		if (v) {
			*val = v;
			return &b->way[(zero + i) & (WAYS - 1)];
		}
	}
	return NULL;
}

/* The entry of key and service in the table with its value, or NULL. */
static __always_inline struct flow *flow_find(__u64 key, __u64 hash, __u32 service, __u64 *val)
{
	__u32 at1 = first_choice(hash), at2 = second_choice(hash);
	struct bucket *b = bpf_map_lookup_elem(&flows, &at1);
	struct flow *f;

	if (!b)
		return NULL;
	f = bucket_find(b, key, service, val);
	if (f)
		return f;
	b = bpf_map_lookup_elem(&flows, &at2);
	return b ? bucket_find(b, key, service, val) : NULL;
}

/* Puts next in the place of val, unless somebody changed the entry since. */
static __always_inline int flow_swap(struct flow *f, __u64 val, __u64 next)
{
	return __sync_val_compare_and_swap(&f->val, val, next) == val;
}

/*
 * How good a victim an entry is: its rank, then its age, then its way. Free or
 * expired first; then the oldest of those on probation, so that a SYN flood
 * feeds on itself; only then the oldest of all. Arithmetic again, for the
 * verifier's sake: it would follow each way out of a branch through all the
 * rest.
 */
#define RANK_SHIFT 32
#define RANK_SYN 1
#define ON_PROBATION (1ULL << FLOW_SYN | 1ULL << FLOW_TEMPLATE_SYN)
#define RANK_FREE 2
#define SCORE_FREE ((__u64)RANK_FREE << RANK_SHIFT)

static __always_inline __u64 victim(const struct generation *g, __u64 v, __u32 way, __u32 now)
{
	__u64 state = FLOW_STATE(v), age = flow_age(v, now), rank;
	__s64 left = (__s64)timeout(g, FLOW_SERVICE(v), state) - (__s64)age;

	if (state == FLOW_BUSY)
		return 0;
	OPAQUE(left);
	rank = ((__u64)left >> 63) * RANK_FREE | (ON_PROBATION >> state & 1) * RANK_SYN;
	return rank << RANK_SHIFT | (age + 1) << 2 | way;
}

struct judged {
	__u64 best;
	__u64 free; /* entries free or expired */
};

static __always_inline void bucket_judge(const struct generation *g, struct bucket *b, __u32 now,
					 struct judged *j)
{
	j->best = j->free = 0;
#pragma unroll
	for (__u32 i = 0; i < WAYS; i++) {
		__u64 score = victim(g, READ_ONCE(b->way[i].val), i, now);

		j->free += score >> (RANK_SHIFT + 1);
		if (score > j->best)
			j->best = score;
	}
}

/* Bit i: way i of b is free, and not just past its time. */
static __always_inline __u32 bucket_free(const struct bucket *b)
{
	__u32 free = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		__u32 used = READ_ONCE(b->way[i].val) & FLOW_USED;

		OPAQUE(used);
		free |= (used - 1) >> 31 << i;
	}
	return free;
}

/* The last way of those in bucket_free(): one digit for each value it can have. */
#define LAST_WAY(free) (0x3333333322221100ULL >> ((free) * 4) & (WAYS - 1))

/* Gives an entry that was judged by the value was to another flow. */
static __always_inline int flow_take(struct flow *f, __u64 was, __u64 key, __u64 val)
{
	__u64 version = FLOW_VERSION(was + FLOW_VERSION_ONE);

	if (!flow_swap(f, was, FLOW_VAL(0, 0, FLOW_BUSY, version, FLOW_SEEN(val))))
		return 0;
	WRITE_ONCE(f->key, key);
	WRITE_ONCE(f->val, val | version);
	return 1;
}

/*
 * Stores a flow that is in neither bucket; val has all but the version. Of the
 * two buckets the one with more room gets it, the first unless it is nearly
 * full: hits should not need the second line. Who loses the entry to another
 * CPU tries once more. Returns 0.
 *
 * A global function: the verifier looks at it once, for any arguments.
 */
GLOBAL int flow_store(__u64 key, __u64 val)
{
	__u32 at1, at2, now = FLOW_SEEN(val), free;
	__u64 hash = flow_hash(key), judged;
	struct state *s = get_state();
	struct bucket *b1, *b2, *b;
	struct generation *g;
	struct judged j, k;
	struct flow *f;

	at1 = first_choice(hash);
	b1 = bpf_map_lookup_elem(&flows, &at1);
	if (!b1)
		return 0;
	/* Mostly there is room, and nobody needs to be judged. */
	free = bucket_free(b1);
	if (free & (free - 1)) {
		f = &b1->way[LAST_WAY(free)];
		judged = READ_ONCE(f->val);
		if (!(judged & FLOW_USED) && flow_take(f, judged, key, val))
			return 0;
	}
	at2 = second_choice(hash);
	b2 = bpf_map_lookup_elem(&flows, &at2);
	if (!b2)
		return 0;
	g = active_generation(s);
	for (int attempt = 0; attempt < 2; attempt++) {
		b = b1;
		bucket_judge(g, b1, now, &j);
		if (j.free < 2) {
			bucket_judge(g, b2, now, &k);
			if (k.free > j.free || (!j.free && k.best > j.best)) {
				b = b2;
				j = k;
			}
		}
		/* As it was judged: a flow promoted since is no victim. */
		f = &b->way[j.best & (WAYS - 1)];
		judged = READ_ONCE(f->val);
		if (!j.best || victim(g, judged, j.best & (WAYS - 1), now) != j.best)
			continue;
		if (!flow_take(f, judged, key, val))
			continue;
		if (j.best < SCORE_FREE)
			count(j.best >> RANK_SHIFT ? REASON_SYN_EVICTED : REASON_FLOW_EVICTED);
		return 0;
	}
	count(REASON_FLOW_NOT_STORED);
	return 0;
}

/* The same for a flow of which an entry exists, with what it had. */
static __always_inline void flow_replace(struct flow *f, __u64 was, __u64 val)
{
	if (!flow_swap(f, was, val | FLOW_VERSION(was)))
		count(REASON_FLOW_NOT_STORED);
}

/* The state after a packet of the client; it never leaves FIN but by a new SYN. */
static __always_inline __u32 next_state(__u32 state, const struct packet *p)
{
	if (p->protocol == IPPROTO_UDP)
		return FLOW_UDP;
	if (p->flags & (TCP_FIN | TCP_RST))
		return FLOW_FIN;
	if (state == FLOW_SYN && (p->flags & TCP_ACK))
		return FLOW_ESTABLISHED;
	return state;
}

#endif

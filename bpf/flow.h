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
 *	client addr  client port  service id      (wire byte order; id 1..)
 *
 * so a key is never 0. The value:
 *
 *	63        32 31     24 23    16 15        0
 *	last seen    version   state    server id  (age units; id 1..)
 *
 * What two CPUs may do to one entry at the same time
 * --------------------------------------------------
 * An entry changes owner in three steps: (1) compare-and-swap of the value to
 * {version+1, BUSY, no server}; (2) store of the new key; (3) store of the new
 * value, with the same version+1. Everything that may be wrong begins with
 * acting on a value one has read; every such action is a compare-and-swap of
 * that value, and a version makes it unique:
 *
 * - Two writers want the same entry: both swap from the value they read, one
 *   loses and looks for another entry. A flow that was promoted or refreshed
 *   since it was judged the victim has another value: it is not evicted.
 * - A writer refreshes (state, last seen) an entry that meanwhile changed
 *   owner: the swap fails, the new owner's server is not overwritten.
 * - A reader forwards by another flow's server: it reads key, value, key,
 *   value. If the first value is not BUSY and the second has the same version,
 *   the entry had one owner from the one read to the other, (3) of it had
 *   happened and (1) of the next had not; so the key read between is that
 *   owner's key, and if it is ours the value is ours. A wrap of the 8-bit
 *   version within those few nanoseconds takes 256 evictions of one entry.
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

#define FLOW_SERVER(v) ((v) & 0xffff)
#define FLOW_STATE(v) (((v) >> 16) & (FLOW_STATES - 1))
#define FLOW_SEEN(v) ((__u32)((v) >> 32))
#define FLOW_VERSION(v) ((v) & 0xff000000ULL)
#define FLOW_VERSION_ONE 0x01000000ULL
#define FLOW_VAL(server, state, version, seen) \
	((__u64)(seen) << 32 | (version) | (__u64)(state) << 16 | (server))

static __always_inline __u64 flow_key(const struct packet *p, __u16 service)
{
	return (__u64)p->saddr << 32 | (__u64)p->sport << 16 | service;
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
static __always_inline __u64 flow_hash(const struct packet *p)
{
	__u64 h = (__u64)p->saddr << 32 | (__u64)p->sport << 16 | p->dport;

	h ^= flow_seed0;
	h ^= h >> 32;
	h *= flow_seed1;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL; /* 2^64 / golden ratio */
	return h ^ h >> 32;
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

/* An age is signed: another CPU's clock reading may be newer than ours. */
static __always_inline __s32 flow_age(__u64 val, __u32 now)
{
	return (__s32)(now - FLOW_SEEN(val));
}

static __always_inline int flow_expired(__u64 val, __u32 now)
{
	return flow_age(val, now) >= timeouts[FLOW_STATE(val)];
}

/*
 * The value of f if it is key's, else 0. A match of the key alone is not enough:
 * an entry that was freed or is BUSY still has its former owner's key.
 */
static __always_inline __u64 flow_read(struct flow *f, __u64 key)
{
	__u64 v;

	if (READ_ONCE(f->key) != key)
		return 0;
	v = READ_ONCE(f->val);
	if (!FLOW_SERVER(v) || READ_ONCE(f->key) != key ||
	    FLOW_VERSION(READ_ONCE(f->val)) != FLOW_VERSION(v))
		return 0;
	return v;
}

/* The entry of key in b with its value, or NULL. */
static __always_inline struct flow *bucket_find(struct bucket *b, __u64 key, __u64 *val)
{
	__u64 zero = unknown_zero(key);

#pragma unroll
	for (__u32 i = 0; i < WAYS; i++) {
		__u64 v = flow_read(&b->way[i], key);

		if (v) {
			*val = v;
			return &b->way[(zero + i) & (WAYS - 1)];
		}
	}
	return NULL;
}

/* Puts next in the place of val, unless somebody changed the entry since. */
static __always_inline int flow_swap(struct flow *f, __u64 val, __u64 next)
{
	return __sync_val_compare_and_swap(&f->val, val, next) == val;
}

/* The best place in one bucket for a new flow. */
struct place {
	__u32 free;  /* entries free or expired */
	__u32 score; /* 0: none may be taken */
	__u32 way;
	__u64 val;   /* as it was judged */
};

#define SCORE_FREE 0xffffffffU
#define SCORE_SYN 0x80000000U

/*
 * Free or expired first; then the oldest of those on probation, so that a SYN
 * flood feeds on itself; only then the oldest of all.
 */
static __always_inline void bucket_judge(struct bucket *b, __u32 now, struct place *best)
{
	__u32 zero;

	best->free = 0;
	best->score = 0;
	best->way = 0;
	best->val = 0;
	zero = unknown_zero(now);
#pragma unroll
	for (__u32 i = 0; i < WAYS; i++) {
		__u64 v = READ_ONCE(b->way[i].val);
		__u32 state = FLOW_STATE(v);
		__s32 age = flow_age(v, now);
		__u32 score;

		if (state == FLOW_BUSY)
			continue;
		if (age >= timeouts[state]) {
			score = SCORE_FREE;
			best->free++;
		} else {
			score = age < 0 ? 1 : age + 1;
			if (state == FLOW_SYN)
				score |= SCORE_SYN;
		}
		if (score > best->score) {
			best->score = score;
			best->way = (zero + i) & (WAYS - 1);
			best->val = v;
		}
	}
}

/*
 * Stores a flow that is in neither bucket. Of the two the one with more room
 * gets it, the first unless it is nearly full: hits should not need the second
 * line. Who loses the entry to another CPU tries once more.
 */
GLOBAL int flow_store(__u32 at1, __u32 at2, __u64 key, __u64 val)
{
	struct bucket *b1 = bpf_map_lookup_elem(&flows, &at1);
	struct bucket *b2 = bpf_map_lookup_elem(&flows, &at2);
	__u32 now = FLOW_SEEN(val);

	if (!b1 || !b2)
		return 0;
	for (int attempt = 0; attempt < 2; attempt++) {
		struct bucket *b = b1;
		struct place p, q;
		struct flow *f;
		__u64 version;

		bucket_judge(b1, now, &p);
		if (p.free < 2) {
			bucket_judge(b2, now, &q);
			if (q.free > p.free || (!p.free && q.score > p.score)) {
				b = b2;
				p = q;
			}
		}
		if (!p.score)
			continue;
		f = &b->way[p.way & (WAYS - 1)];
		version = FLOW_VERSION(p.val + FLOW_VERSION_ONE);
		if (!flow_swap(f, p.val, FLOW_VAL(0, FLOW_BUSY, version, now)))
			continue;
		WRITE_ONCE(f->key, key);
		WRITE_ONCE(f->val, val | version);
		if (p.score != SCORE_FREE)
			count(p.score & SCORE_SYN ? REASON_SYN_EVICTED : REASON_FLOW_EVICTED);
		return 0;
	}
	count(REASON_FLOW_NOT_STORED);
	return 0;
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

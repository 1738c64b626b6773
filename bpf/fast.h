/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The short cut of most packets: TCP or UDP in plain IPv4, of a flow that goes
 * on. They are asked what all are asked (xdp.c), in the order that needs the
 * fewest words at a time: each that ten registers cannot hold costs two
 * instructions, and those are what such a packet costs. Whatever is not as
 * usual goes the long way from its beginning; nothing has been changed then.
 *
 * What makes it short:
 *
 * - Several fields are compared at once, of the headers as of the flow's value.
 * - A service with SERVICE_FAST is at an address that is served here, so only a
 *   packet without a service asks for its address.
 * - A SYN or the end of a connection is not looked for in the flow table.
 *
 * The observing program has no short cut, so what an observer is told is what
 * the long way did. TestShortCutsChangeNothing of dataplane/xdp holds the two
 * against each other.
 */
#ifndef SYSTOLE_FAST_H
#define SYSTOLE_FAST_H

#include "flow.h"
#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"

/* Where the headers begin. */
#define FAST_IP ETH_HLEN
#define FAST_L4 (FAST_IP + 20)
/* With TCP's header. Datagrams are looked at so far too: frames are padded to it. */
#define FAST_HEAD (FAST_L4 + TCP_MIN)

/* From byte 12: the EtherType, version and length of the IP header. */
#define FAST_TYPE_MASK 0x00ffffff
#define FAST_TYPE (0x45 << 16 | bpf_htons(ETH_P_IP))
/* From byte 6 of IP: flags and offset of a fragment, TTL, protocol. */
#define FAST_PROTOCOL_MASK (0xffU << 24 | bpf_htons(IP_FRAGMENT))

/* What of a flow's value is known before it is read. */
#define FAST_KNOWN (~(FLOW_VERSION_MASK | FLOW_SERVER_MASK))

static __always_inline __u32 fast_word(const void *frame, __u32 at)
{
	return *(const __u32 *)(frame + at);
}

static __always_inline __u16 fast_half(const void *frame, __u32 at)
{
	return *(const __u16 *)(frame + at);
}

static __always_inline __u8 fast_byte(const void *frame, __u32 at)
{
	return *(const __u8 *)(frame + at);
}

/* What is offset bytes after base. The compiler would add to a copy of base. */
static __always_inline void *fast_at(const void *base, __u64 offset)
{
	asm("%0 += %1" : "+r"(offset) : "r"(base));
	return (void *)offset;
}

/* service_place() of schedule.h. */
static __always_inline struct service *fast_service(struct generation *g, __u64 key)
{
	__u64 h = key * g->service_seed;
	__u16 *shift = fast_at(g, (h >> 48 & (SERVICE_BUCKETS - 1)) * sizeof(*shift)) +
		       offsetof(struct generation, service_shift);
	__u64 at = (h >> 32 ^ *shift) & (SERVICE_TABLE - 1);

	return fast_at(g, at * sizeof(struct service)) + offsetof(struct generation, services);
}

/* The entry with this key, in the order of bucket_find(); its service may be another. */
static __always_inline struct flow *fast_find(struct bucket *b, __u64 key)
{
#pragma unroll
	for (int i = WAYS - 1; i >= 0; i--)
		if (READ_ONCE(b->way[i].key) == key)
			return &b->way[i];
	return NULL;
}

/* Ends the program here. The compiler would jump to where it ends all others. */
#define FAST_EXIT(verdict)                                          \
	do {                                                        \
		asm volatile("r0 = %0\n\texit" : : "i"(verdict));   \
		__builtin_unreachable();                            \
	} while (0)

/* Returns for the long way. */
static __always_inline void fast(struct xdp_md *ctx)
{
	__u64 jiffies, key, hash, own, want, val, wrong, at, mac, known;
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct generation *g;
	struct service *svc;
	struct counters *c;
	struct bucket *b;
	struct flow *f;
	__u32 protocol, bytes, id;
	__be32 addr;

	if (data + FAST_HEAD > end)
		return;
	if ((fast_word(data, 12) & FAST_TYPE_MASK) != FAST_TYPE)
		return;
	protocol = fast_word(data, FAST_IP + 6) & FAST_PROTOCOL_MASK;
	if (protocol == IPPROTO_TCP << 24) {
		if (fast_byte(data, FAST_L4 + TCP_FLAGS_OFFSET) & (TCP_FIN | TCP_SYN | TCP_RST))
			return;
		want = FLOW_STATE_BITS(FLOW_ESTABLISHED);
	} else if (protocol == IPPROTO_UDP << 24) {
		want = FLOW_STATE_BITS(FLOW_UDP);
	} else {
		return;
	}

	g = active_generation(get_state());
	OPAQUE(g);
	key = service_key(fast_word(data, FAST_IP + 16), fast_half(data, FAST_L4 + 2),
			  fast_byte(data, FAST_IP + 9));
	svc = fast_service(g, key);
	OPAQUE(svc);
	if (svc->key != key) {
		addr = fast_word(data, FAST_IP + 16);
		if (vip_place(g, addr)->addr != addr)
			FAST_EXIT(XDP_PASS);
		return;
	}
	/* Of the flow now, so that its bucket is on its way from memory. */
	key = (__u64)fast_word(data, FAST_IP + 12) << 32 | (__u64)fast_half(data, FAST_L4) << 16 |
	      fast_half(data, FAST_L4 + 2);
	hash = flow_hash_high(key);
	id = first_choice(hash);
	b = bpf_map_lookup_elem(&flows, &id);
	if (!b)
		return;
	(void)READ_ONCE(b->way[WAYS - 1].key);
	if (!(svc->flags & SERVICE_FAST))
		return;
	bytes = bpf_ntohs(fast_half(data, FAST_IP + 2));
	if (bytes < sizeof(struct iphdr) || bytes > end - (data + FAST_IP))
		return;
	jiffies = bpf_jiffies64();
	if (jiffies >= READ_ONCE(get_state()->lease_until))
		return;
	want |= jiffies >> age_shift << FLOW_SEEN_SHIFT | (__u64)svc->id << FLOW_SERVICE_SHIFT;
	OPAQUE(want); /* now: else its parts are kept one by one */
	own = mac_word(&g->own);
	if (fast_word(data, 0) != (__u32)own || fast_half(data, 4) != own >> 32)
		return;

	f = fast_find(b, key);
	if (!f) {
		id = second_choice(flow_hash_fold(hash));
		b = bpf_map_lookup_elem(&flows, &id);
		if (!b)
			return;
		f = fast_find(b, key);
		if (!f)
			return;
	}
	val = READ_ONCE(f->val);
	if (READ_ONCE(f->key) != key || READ_ONCE(f->val) != val)
		return;
	at = id = FLOW_SERVER(val);
	mac = mac_word(fast_at(g, at * sizeof(struct server)) + offsetof(struct generation, servers));
	if (mac >> 48 != svc->id)
		return;
	known = mac << 16;
	OPAQUE(known);
	if (!known)
		return;
	wrong = (val ^ want) & FAST_KNOWN;
	if (wrong) {
		/* Once per age unit: only the time is not as it should be. */
		if (wrong << (64 - FLOW_SEEN_SHIFT) || svc->flags & SERVICE_PERSISTENT ||
		    flow_expired(g, val, want >> FLOW_SEEN_SHIFT))
			return;
		flow_swap(f, val, val ^ wrong);
	}
	c = bpf_map_lookup_elem(&server_stats, &id);
	if (c) {
		c->packets++;
		c->bytes += bpf_ntohs(fast_half(data, FAST_IP + 2));
	}
	own = mac_word(&g->own);
	*(__u32 *)data = mac;
	*(__u16 *)(data + 4) = mac >> 32;
	*(__u32 *)(data + 6) = own;
	*(__u16 *)(data + 10) = own >> 32;
	FAST_EXIT(XDP_TX);
}

#endif
